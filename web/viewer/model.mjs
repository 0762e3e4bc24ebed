// @ts-check
// A comparison and what a person looks at in it. Tells by events what has changed: `sheet`, `state`, `view`, `said`.
import { newView } from './view.mjs'

/**
 * @typedef {import('./view.mjs').Place} Place
 * @typedef {import('./view.mjs').View} View
 * @typedef {{checkpoint: string, run: string, epoch: number, strength_model: number, strength_text: number, prompt: string, negative_prompt: string, seed: number, steps: number, guidance: number, flux_guidance: number, sampler: string, scheduler: string}} Facts
 * @typedef {{running: boolean, drawn: (number | null)[], failed: (string | null)[], chosen: Record<string, number>, size: [number, number] | null}} State
 * @typedef {State & {sheet: string, run: string, columns: string[], rows: string[], pages: string[], cells: (number | null)[][][], pictures: Facts[]}} Sheet
 */

/** In (page, row, column). @type {Record<'x' | 'y' | 'z', 0 | 1 | 2>} */
const PLACE_OF = { z: 0, y: 1, x: 2 }

export class Model extends EventTarget {
  constructor() {
    super()
    /** @type {Sheet | undefined} */
    this.sheet = undefined
    /** @type {View} */
    this.view = newView()
    this.said = ''
  }

  /** Takes a comparison whole; without one there is nothing to show. @param {Sheet | undefined} sheet */
  take(sheet) {
    this.sheet = sheet
    if (sheet) {
      const { at, a, b } = this.view
      this.view = { ...this.view, at: this._inside(at), a: a && this._inside(a), b: b && this._inside(b) }
    }
    this._tell('sheet')
  }

  /** @param {State} state */
  takeState(state) {
    if (!this.sheet) return
    this.sheet = { ...this.sheet, ...state }
    this._tell('state')
  }

  /** @param {Partial<View>} change */
  change(change) {
    this.view = { ...this.view, ...change }
    this._tell('view')
  }

  /** A sentence for the person. @param {string} text */
  say(text) {
    this.said = text
    this._tell('said')
  }

  /** How many values an axis has. @param {'x' | 'y' | 'z'} axis */
  count(axis) {
    return this.labels(axis).length
  }

  /** @param {'x' | 'y' | 'z'} axis @returns {string[]} */
  labels(axis) {
    const { sheet } = this
    return !sheet ? [] : axis === 'x' ? sheet.columns : axis === 'y' ? sheet.rows : sheet.pages
  }

  /** The number of the picture there; null where a run has no such epoch. @param {Place} place */
  number([page, row, column]) {
    return this.sheet?.cells[page]?.[row]?.[column] ?? null
  }

  /** @param {Place} place @returns {Facts | undefined} */
  facts(place) {
    const number = this.number(place)
    return number === null ? undefined : this.sheet?.pictures[number]
  }

  /** What a place is called: its values on the axes. @param {Place} place */
  label([page, row, column]) {
    const { sheet } = this
    return [sheet?.rows[row], sheet?.columns[column], (sheet?.pages.length ?? 0) > 1 && sheet?.pages[page]].filter(Boolean).join(' · ')
  }

  /** Whether the epoch there is the one that was chosen of its run. @param {Place} place */
  isChosen(place) {
    const facts = this.facts(place)
    return Boolean(facts && facts.epoch > 0 && this.sheet?.chosen[facts.run] === facts.epoch)
  }

  get numDrawn() {
    return this.sheet?.drawn.filter((written) => written !== null).length ?? 0
  }

  /** The axis along which epochs change, else runs, else anything. @returns {'x' | 'y' | 'z'} */
  get epochAxis() {
    /** @type {('x' | 'y' | 'z')[]} */
    const axes = ['y', 'x', 'z']
    for (const name of /** @type {const} */ (['epoch', 'run', 'seed'])) {
      const found = axes.find((axis) => {
        const values = Array.from({ length: this.count(axis) }, (_, i) => this.facts(this._inside([0, 1, 2].map((at) => (at === PLACE_OF[axis] ? i : Infinity)))))
        return new Set(values.map((facts) => facts?.[name])).size > 1
      })
      if (found) return found
    }
    return axes.find((axis) => this.count(axis) > 1) ?? 'y'
  }

  /** Goes along an axis; in comparisons with the picture that walks, or with both. @param {'x' | 'y' | 'z'} axis @param {number} steps @param {boolean} [isBoth] */
  walk(axis, steps, isBoth = false) {
    if (!this.sheet) return
    const moved = (/** @type {Place} */ place) => {
      const next = /** @type {Place} */ ([...place])
      next[PLACE_OF[axis]] += steps
      return this._inside(next)
    }
    const { mode, at, a, b, walks } = this.view
    if (mode !== 'compare' || !a || !b) return this.change({ at: moved(at) })
    const next = { a: isBoth || walks === 'a' ? moved(a) : a, b: isBoth || walks === 'b' ? moved(b) : b }
    this.change({ ...next, at: next[walks] })
  }

  /** @param {'a' | 'b'} side @param {Place} [place] */
  pin(side, place = this.view.at) {
    const { a, b } = { ...this.view, [side]: place }
    this.change({ a, b, at: place, walks: side, ...(a && b ? { mode: 'compare' } : {}) })
  }

  /** Compares the pinned two; where fewer are pinned, what is looked at and its neighbour. */
  compare() {
    const { at } = this.view
    let { a, b } = this.view
    if (!a && !b) a = at
    const other = a ?? b ?? at
    const neighbour = this._neighbour(other)
    if (!b) b = same(at, other) ? neighbour : at
    if (!a) a = same(at, other) ? neighbour : at
    this.change({ a, b, mode: 'compare', at: this.view.walks === 'a' ? a : b })
  }

  swap() {
    const { a, b } = this.view
    this.change({ a: b, b: a, at: (this.view.walks === 'a' ? b : a) ?? this.view.at })
  }

  /** Another place on the axis of the epochs, or on any that has two values. @param {Place} place @returns {Place} */
  _neighbour(place) {
    const axis = this.count(this.epochAxis) > 1 ? this.epochAxis : 'x', next = /** @type {Place} */ ([...place]), at = PLACE_OF[axis]
    next[at] += place[at] + 1 < this.count(axis) ? 1 : -1
    return this._inside(next)
  }

  /** @param {number[]} place @returns {Place} */
  _inside(place) {
    const within = (/** @type {number} */ value, /** @type {number} */ count) => Math.max(0, Math.min(count - 1, value))
    return [within(place[0], this.count('z')), within(place[1], this.count('y')), within(place[2], this.count('x'))]
  }

  /** @param {string} what */
  _tell(what) {
    this.dispatchEvent(new Event(what))
  }
}

/** @param {Place | null} one @param {Place | null} other */
export function same(one, other) {
  return Boolean(one && other && one.every((value, i) => value === other[i]))
}
