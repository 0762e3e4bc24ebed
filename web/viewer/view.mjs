// @ts-check
// What of a comparison is shown, and how: kept with the workflow, so it may be of another version or of somebody else.

/** Page, row and column. @typedef {[number, number, number]} Place */
/** @typedef {'x' | 'y' | 'z'} Axis */
/** @typedef {'grid' | 'large' | 'compare' | 'blind'} Mode */
/**
 * @typedef {object} View
 * @property {Mode} mode
 * @property {Place} at the picture that is looked at
 * @property {Place | null} a
 * @property {Place | null} b the two that are compared
 * @property {'a' | 'b'} walks which of them the arrow keys move
 * @property {'slider' | 'flip' | 'difference'} way
 * @property {boolean} flipped whether B is to be seen
 * @property {number} slider where the line stands, 0 left to 1 right
 * @property {number} gain of differences
 * @property {number} zoom of pictures; at 1 they just fit
 * @property {[number, number]} centre what of the picture lies in the middle, 0 to 1
 * @property {number} cell width of the grid's pictures in px; 0 lets the grid fit
 * @property {boolean} facts whether the parameters are shown
 * @property {Axis | ''} judged what is voted about in blind mode; empty until it is chosen
 */

export const MAX_ZOOM = 64
export const MIN_CELL_PX = 40, MAX_CELL_PX = 1600
export const GAINS = [1, 4, 16]

/** @returns {View} */
export function newView() {
  return { mode: 'grid', at: [0, 0, 0], a: null, b: null, walks: 'b', way: 'slider', flipped: false, slider: 0.5, gain: 4, zoom: 1, centre: [0.5, 0.5], cell: 0, facts: true, judged: '' }
}

/** A view from a workflow: what does not fit is left at its usual value. @param {unknown} data @returns {View} */
export function readView(data) {
  const view = newView()
  if (!data || typeof data !== 'object') return view
  const given = /** @type {Record<string, any>} */ (data)
  const one = (/** @type {any} */ value, /** @type {any[]} */ known, /** @type {any} */ usual) => (known.includes(value) ? value : usual)
  const number = (/** @type {any} */ value, /** @type {number} */ low, /** @type {number} */ high, /** @type {number} */ usual) => (Number.isFinite(value) ? Math.min(high, Math.max(low, value)) : usual)
  return {
    mode: one(given.mode, ['grid', 'large', 'compare', 'blind'], view.mode),
    at: place(given.at) ?? view.at,
    a: place(given.a),
    b: place(given.b),
    walks: one(given.walks, ['a', 'b'], view.walks),
    way: one(given.way, ['slider', 'flip', 'difference'], view.way),
    flipped: given.flipped === true,
    slider: number(given.slider, 0, 1, view.slider),
    gain: one(given.gain, GAINS, view.gain),
    zoom: number(given.zoom, 1, MAX_ZOOM, view.zoom),
    centre: Array.isArray(given.centre) ? [number(given.centre[0], 0, 1, 0.5), number(given.centre[1], 0, 1, 0.5)] : view.centre,
    cell: given.cell === 0 ? 0 : number(given.cell, MIN_CELL_PX, MAX_CELL_PX, 0),
    facts: given.facts !== false,
    judged: one(given.judged, ['', 'x', 'y', 'z'], view.judged),
  }
}

/** @param {any} value @returns {Place | null} */
function place(value) {
  return Array.isArray(value) && value.length === 3 && value.every((each) => Number.isInteger(each) && each >= 0) ? [value[0], value[1], value[2]] : null
}
