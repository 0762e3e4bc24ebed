// @ts-check
// Hand edits as tagger/hand_edits.py reads and replays them. `diff` makes them here; a browser test replays them there.
import { matchKey, withoutDuplicates } from './tags.mjs'

/**
 * @typedef {object} HandEdit
 * @property {string[]} [remove]
 * @property {string[]} [add]
 * @property {string[]} [order] the whole caption, only where added tags are not simply at the end
 */

const VERSION = 1

/** The edit that makes `after` of `before`; null if there is nothing to do. @param {string[]} before @param {string[]} after @returns {HandEdit | null} */
export function diff(before, after) {
  const old = withoutDuplicates(before)
  const wanted = withoutDuplicates(after)
  const remove = old.filter((tag) => !wanted.includes(tag))
  const add = wanted.filter((tag) => !old.includes(tag))
  const natural = replay(before, { remove, add })
  const isInOrder = natural.length === wanted.length && natural.every((tag, i) => tag === wanted[i])
  /** @type {HandEdit} */
  const edit = {}
  if (remove.length) edit.remove = remove
  if (add.length) edit.add = add
  if (!isInOrder) edit.order = wanted
  return Object.keys(edit).length ? edit : null
}

/** The caption `tags` after `edit`. @param {string[]} tags @param {HandEdit} edit @returns {string[]} */
export function replay(tags, edit) {
  const removed = new Set((edit.remove ?? []).map(matchKey))
  const kept = withoutDuplicates(tags).filter((tag) => !removed.has(matchKey(tag)))
  const all = withoutDuplicates([...kept, ...(edit.add ?? [])])
  if (!edit.order?.length) return all
  const rank = new Map(withoutDuplicates(edit.order).map((tag, place) => [matchKey(tag), place]))
  const rankOf = (/** @type {string} */ tag) => rank.get(matchKey(tag)) ?? -1
  const placed = all.filter((tag) => rankOf(tag) >= 0).sort((one, other) => rankOf(one) - rankOf(other))
  all.forEach((tag, i) => {
    if (rankOf(tag) < 0) placed.splice(i ? placed.indexOf(all[i - 1]) + 1 : 0, 0, tag)
  })
  return placed
}

/** By the paths that they are for. The server has checked the text already. @param {string} text @returns {Map<string, HandEdit>} */
export function parseEdits(text) {
  return new Map(text.trim() ? Object.entries(JSON.parse(text).pictures) : [])
}

/** @param {Map<string, HandEdit>} edits @returns {string} empty if there is none */
export function editsText(edits) {
  return edits.size ? JSON.stringify({ version: VERSION, pictures: Object.fromEntries(edits) }) : ''
}
