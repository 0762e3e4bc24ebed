// @ts-check
// The routes of nodes/routes.py.
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
