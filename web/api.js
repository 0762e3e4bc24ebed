// @ts-check
// The routes of nodes/routes.py, nodes/panel_routes.py and nodes/viewer_routes.py.
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

/** A comparison: labels, cells, parameters, and what is drawn of it. @param {string} sheet @returns {Promise<import('./viewer/model.mjs').Sheet>} */
export function fetchSheet(sheet) {
  return get(`/athanor/viewer/sheet?${new URLSearchParams({ sheet })}`)
}

/** What of it changes while it is drawn. @param {string} sheet @returns {Promise<import('./viewer/model.mjs').State>} */
export function fetchSheetState(sheet) {
  return get(`/athanor/viewer/state?${new URLSearchParams({ sheet })}`)
}

/** Picture `number` of a comparison; with side 0 as it was drawn. @param {string} sheet @param {number} number @param {number} written when, in ms @param {0 | 256 | 1536} sidePx */
export function pictureUrl(sheet, number, written, sidePx) {
  const query = new URLSearchParams({ sheet, number: String(number), side: String(sidePx), of: String(written) })
  return api.apiURL(`/athanor/viewer/picture?${query}`)
}

/** Marks the epoch of that picture in its run. @param {string} sheet @param {number} number @returns {Promise<{run: string, own: boolean, epoch: number}>} */
export function sendChoice(sheet, number) {
  return post('/athanor/viewer/choose', { sheet, number })
}

/** Two pictures to vote about. @param {string} sheet @param {string} axis @returns {Promise<{pair: {first: number, second: number, place: [number, number, number]} | null}>} */
export function fetchPair(sheet, axis) {
  return get(`/athanor/viewer/pair?${new URLSearchParams({ sheet, axis })}`)
}

/** @param {string} sheet @param {string} axis @returns {Promise<import('./viewer/blind.mjs').Standing>} */
export function fetchRanking(sheet, axis) {
  return get(`/athanor/viewer/ranking?${new URLSearchParams({ sheet, axis })}`)
}

/** A vote, or the last one taken back. @param {string} sheet @param {string} axis @param {'first' | 'second' | 'tie' | 'back'} winner @param {number} first @param {number} second @returns {Promise<import('./viewer/blind.mjs').Standing>} */
export function sendVote(sheet, axis, winner, first, second) {
  return post('/athanor/viewer/vote', { sheet, axis, winner, first, second })
}

/** Calls `hear` when a train node begins, in any page. @param {(begun: {node: string, name: string, run: string}) => void} hear @returns {() => void} ends it */
export function onRunBegun(hear) {
  return listen('athanor.run', hear)
}

/** Calls `hear` when XY Plot Compare begins, in any page. @param {(begun: {node: string, sheet: string}) => void} hear @returns {() => void} ends it */
export function onSheetBegun(hear) {
  return listen('athanor.sheet', hear)
}

/** @param {string} event @param {(told: any) => void} hear */
function listen(event, hear) {
  const listener = (/** @type {any} */ told) => hear(told.detail)
  api.addEventListener(event, listener)
  return () => api.removeEventListener(event, listener)
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
