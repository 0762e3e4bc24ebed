// @ts-check
// What the editor knows: the captions as they are now, what is selected, what was done and can be undone. No DOM.
import { diff, editsText, parseEdits, replay } from './edits.mjs'
import { matchKey, withoutDuplicates } from './tags.mjs'

/**
 * @typedef {object} Listing What POST /athanor/editor/listing answers.
 * @property {[string, number, number, string, number[], number][]} pictures key, width, height, role, numbers of tags, has a caption
 * @property {[string, number][]} tags name, category
 * @property {string} rules
 * @property {string} filter
 * @property {string} lexicon
 * @property {boolean} has_scores
 * @property {Record<string, number[]>} places of the pictures that the hand edits are for
 *
 * @typedef {{key: string, name: string, width: number, height: number, role: string}} Picture
 * @typedef {{number: number, before: string[], after: string[]}} Change
 */

/** Fires "captions" and "selection" (also when the shown pictures change). */
export class Model extends EventTarget {
  /** @param {string} id of the listing @param {Listing} listing @param {string} handEdits */
  constructor(id, listing, handEdits) {
    super()
    this.id = id
    this.listing = listing
    /** @type {Picture[]} */
    this.pictures = listing.pictures.map(([key, width, height, role]) => ({ key, name: key.slice(key.lastIndexOf('/') + 1), width, height, role }))
    const names = listing.tags.map(([name]) => name)
    /** Pictures that are made of one file, by its key; only where they are several. @type {Map<string, number[]>} */
    this.sameFile = new Map()
    this.pictures.forEach(({ key }, number) => this.sameFile.set(key, [...(this.sameFile.get(key) ?? []), number]))
    for (const [key, numbers] of this.sameFile) if (numbers.length < 2) this.sameFile.delete(key)
    /** @type {string[][]} after the rules */
    this.base = listing.pictures.map((picture) => picture[4].map((number) => names[number]))
    /** @type {string[][]} */
    this.captions = this.base.slice()
    this.categories = new Map(listing.tags.map(([name, category]) => [matchKey(name), category]))
    /** Edits of pictures that are not here now: kept for when they are again. @type {Map<string, import('./edits.mjs').HandEdit>} */
    this.strangers = new Map()
    /** @type {Set<number>} */
    this.edited = new Set()
    for (const [key, edit] of parseEdits(handEdits)) {
      const places = listing.places[key] ?? []
      if (!places.length) this.strangers.set(key, edit)
      for (const number of places) this._set(number, replay(this.base[number], edit))
    }
    /** @type {Change[][]} */
    this.done = []
    /** @type {Change[][]} */
    this.undone = []
    /** @type {Change[] | undefined} the last one when the edits were saved */
    this.savedAt = undefined
    /** Numbers of the pictures that the filter finds, in order. */
    this.shown = this.pictures.map((_, number) => number)
    /** @type {Set<number>} */
    this.selection = new Set()
    /** The picture that the keys move from; -1 before the first. */
    this.cursor = -1
    this.anchor = -1
    /** @type {Map<string, {tag: string, count: number}> | null} */
    this._counts = null
  }

  /** @param {number} number @param {string[]} tags */
  _set(number, tags) {
    this.captions[number] = tags
    if (diff(this.base[number], tags)) this.edited.add(number)
    else this.edited.delete(number)
    this._counts = null
  }

  /**
   * Changes the captions of some pictures as one step. What Bucket made of one file is one picture: its parts and mirrored copies change with it.
   * @param {Iterable<number>} numbers @param {(tags: string[], number: number) => string[]} change @returns {number} how many are different now
   */
  change(numbers, change) {
    /** @type {Change[]} */
    const step = []
    for (const number of new Set([...numbers].flatMap((each) => [each, ...(this.sameFile.get(this.pictures[each].key) ?? [])]))) {
      const before = this.captions[number]
      const after = withoutDuplicates(change(before, number))
      if (!isSame(before, after)) step.push({ number, before, after })
    }
    return this._do(step)
  }

  /** Puts all hand edits in place of those that are there, as one step. @param {string} handEdits as `editsText` made them @returns {number} how many captions are different now */
  restore(handEdits) {
    const edits = parseEdits(handEdits)
    /** @type {Change[]} */
    const step = []
    this.pictures.forEach(({ key }, number) => {
      const edit = edits.get(key)
      const before = this.captions[number]
      const after = edit ? replay(this.base[number], edit) : this.base[number]
      if (!isSame(before, after)) step.push({ number, before, after })
    })
    const here = new Set(this.pictures.map(({ key }) => key))
    for (const [key, edit] of edits) if (!here.has(key)) this.strangers.set(key, edit)
    return this._do(step)
  }

  /** @param {Change[]} step @returns {number} */
  _do(step) {
    if (!step.length) return 0
    for (const { number, after } of step) this._set(number, after)
    this.done.push(step)
    this.undone = []
    this._fire('captions')
    return step.length
  }

  /** @returns {Change[] | undefined} what was taken back */
  undo() {
    const step = this.done.pop()
    if (!step) return undefined
    for (const { number, before } of step) this._set(number, before)
    this.undone.push(step)
    this._fire('captions')
    return step
  }

  /** @returns {Change[] | undefined} what was done again */
  redo() {
    const step = this.undone.pop()
    if (!step) return undefined
    for (const { number, after } of step) this._set(number, after)
    this.done.push(step)
    this._fire('captions')
    return step
  }

  get isDirty() {
    return this.done.at(-1) !== this.savedAt
  }

  markSaved() {
    this.savedAt = this.done.at(-1)
    this._fire('captions')
  }

  /** All hand edits as the node keeps them. */
  editsText() {
    const edits = new Map(this.strangers)
    for (const number of [...this.edited].sort((one, other) => one - other)) {
      const edit = diff(this.base[number], this.captions[number])
      if (edit) edits.set(this.pictures[number].key, edit)
    }
    return editsText(edits)
  }

  /** How many pictures have each tag, by its key. */
  counts() {
    if (!this._counts) {
      this._counts = new Map()
      for (const caption of this.captions) countInto(this._counts, caption)
    }
    return this._counts
  }

  /** The same for some pictures only. @param {Iterable<number>} numbers */
  countsOf(numbers) {
    /** @type {Map<string, {tag: string, count: number}>} */
    const counts = new Map()
    for (const number of numbers) countInto(counts, this.captions[number])
    return counts
  }

  /** @param {string} tag @returns {number} -1 if nobody knows */
  categoryOf(tag) {
    return this.categories.get(matchKey(tag)) ?? -1
  }

  /** @param {number[]} numbers */
  show(numbers) {
    this.shown = numbers
    const there = new Set(numbers)
    this.selection = new Set([...this.selection].filter((number) => there.has(number)))
    if (!there.has(this.cursor)) this.cursor = this.anchor = -1
    if (!there.has(this.anchor)) this.anchor = this.cursor
    this._fire('selection')
  }

  /** @param {Iterable<number>} numbers @param {number} [cursor] */
  select(numbers, cursor = this.cursor) {
    this.selection = new Set(numbers)
    this.cursor = cursor
    this._fire('selection')
  }

  /** A click or a key: alone, toggled (ctrl), or all from the anchor to there (shift). @param {number} number @param {'alone' | 'toggle' | 'range'} how */
  pick(number, how) {
    if (how === 'range' && this.anchor >= 0) {
      const [from, to] = [this.shown.indexOf(this.anchor), this.shown.indexOf(number)].sort((one, other) => one - other)
      this.select(this.shown.slice(from, to + 1), number)
      return
    }
    const chosen = how === 'toggle' ? new Set(this.selection) : new Set([number])
    if (how === 'toggle' && !chosen.delete(number)) chosen.add(number)
    this.anchor = number
    this.select(chosen, number)
  }

  /** The next picture without tags behind the cursor, round the end; -1 if there is none. */
  nextUntagged() {
    const start = this.shown.indexOf(this.cursor)
    for (let i = 1; i <= this.shown.length; i++) {
      const number = this.shown[(start + i) % this.shown.length]
      if (!this.captions[number].length) return number
    }
    return -1
  }

  /** @param {string} type */
  _fire(type) {
    this.dispatchEvent(new Event(type))
  }
}

/** @param {string[]} one @param {string[]} other */
function isSame(one, other) {
  return one.length === other.length && one.every((tag, i) => tag === other[i])
}

/** @param {Map<string, {tag: string, count: number}>} counts @param {string[]} caption */
function countInto(counts, caption) {
  for (const tag of caption) {
    const key = matchKey(tag)
    const known = counts.get(key)
    if (known) known.count++
    else counts.set(key, { tag, count: 1 })
  }
}
