// @ts-check
// The routes of nodes/routes.py and nodes/panel_routes.py.
import { api } from '../../scripts/api.js'

/** A refusal of the server, as a sentence. */
export class RefusedError extends Error {}

/** Pictures and captions as the node left them. @param {string} listing @param {string} handEdits @returns {Promise<import('./editor/model.mjs').Listing>} */
export function fetchListing(listing, handEdits) {
  return post('/athanor/editor/listing', { listing, hand_edits: handEdits })
}

/** Numbers of the pictures that a filter finds. @param {string} listing @param {string} filter @param {string} handEdits @returns {Promise<number[]>} */
export async function fetchChosen(listing, filter, handEdits) {
  return (await post('/athanor/editor/filter', { listing, filter, hand_edits: handEdits })).chosen
}

/** Tags of the lexicon with `text` in them: name, category, count, alias. @param {string} text @param {string} lexicon @returns {Promise<[string, number, number, string][]>} */
export async function fetchTags(text, lexicon) {
  return (await get(`/athanor/editor/tags?${new URLSearchParams({ text, lexicon })}`)).tags
}

/** What the taggers thought of a picture. @param {string} listing @param {number} number @returns {Promise<{name: string, tags: [string, number, number][]}[]>} */
export async function fetchScores(listing, number) {
  return (await get(`/athanor/editor/scores/${listing}/${number}`)).taggers
}

/** @param {string} listing @param {number} number @param {256 | 1536} sidePx */
export function thumbnailUrl(listing, number, sidePx) {
  return api.apiURL(`/athanor/editor/thumbnail/${listing}/${number}/${sidePx}`)
}

/** The run that a train node shows, if there is one. @param {string} node @param {string} name @param {string} known @returns {Promise<string | null>} */
export async function fetchRun(node, name, known) {
  return (await get(`/athanor/panel/run?${new URLSearchParams({ node, name, known })}`)).run
}

/** How a run goes; with a cursor what is new since. @param {string} run @param {string} cursor @returns {Promise<import('./panel/story.mjs').Answer>} */
export function fetchEvents(run, cursor) {
  return get(`/athanor/panel/events?${new URLSearchParams({ run, cursor })}`)
}

/** @param {string} run @param {'stop' | 'stop-epoch' | 'go-on' | 'sample' | 'save'} command */
export function sendCommand(run, command) {
  return post('/athanor/panel/control', { run, command })
}

/** @param {string} run @param {{number: number, time: number}} sample @param {256 | 1536} sidePx */
export function sampleUrl(run, sample, sidePx) {
  const query = new URLSearchParams({ run, number: String(sample.number), side: String(sidePx), of: String(sample.time) })
  return api.apiURL(`/athanor/panel/sample?${query}`)
}

/** Calls `hear` when a train node begins, in any page. @param {(begun: {node: string, name: string, run: string}) => void} hear @returns {() => void} ends it */
export function onRunBegun(hear) {
  const listener = (/** @type {any} */ event) => hear(event.detail)
  api.addEventListener('athanor.run', listener)
  return () => api.removeEventListener('athanor.run', listener)
}

/** @param {string} path */
async function get(path) {
  return answer(await api.fetchApi(path))
}

/** @param {string} path @param {object} body */
async function post(path, body) {
  return answer(await api.fetchApi(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) }))
}

/** @param {Response} response */
async function answer(response) {
  const data = await response.json().catch(() => ({}))
  if (!response.ok) throw new RefusedError(data.error ?? `${response.status} ${response.statusText}`)
  return data
}
