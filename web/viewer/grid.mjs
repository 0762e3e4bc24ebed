// @ts-check
// All pictures of a page under headers that stay: columns X, rows Y; the pages are Z.
import { pictureUrl } from '../api.js'
import { h } from '../editor/dom.mjs'
import { same } from './model.mjs'
import { MAX_CELL_PX, MIN_CELL_PX } from './view.mjs'

const BARE = ['base', 'no embedding', 'no LoRA'], LONG_LABEL = 24, LONGEST_LABEL = 60
const GAP_PX = 3, SMALLEST_FIT_PX = 72, SMALL_PX = 256, DRAG_PX = 4

export class Grid {
  /** @param {import('./model.mjs').Model} model @param {import('./text.mjs').Translate} t @param {(event: WheelEvent) => boolean} wantsWheel */
  constructor(model, t, wantsWheel) {
    this.model = model
    this.t = t
    this.table = h('div', { class: 'table', role: 'grid' })
    this.element = h('div', { class: 'grid' }, this.table)
    this.key = ''
    /** @type {{place: import('./view.mjs').Place, element: HTMLElement, url: string}[]} */
    this.cells = []
    /** @type {{axis: 'x' | 'y', index: number, element: HTMLElement, text: string}[]} */
    this.headers = []
    this.fitted = ''
    this.wasDragged = false
    this.element.addEventListener('wheel', (event) => this._wheel(event, wantsWheel), { passive: false })
    this.element.addEventListener('pointerdown', (event) => this._pan(event))
    this.sizes = new ResizeObserver(() => this.lay())
    this.sizes.observe(this.element)
  }

  draw() {
    const { model } = this, { sheet, view } = model
    if (!sheet) return
    const page = view.at[0], key = `${sheet.sheet}|${page}`
    if (key !== this.key) this._build(sheet, page)
    this.key = key
    this.lay()
    for (const cell of this.cells) this._mark(cell)
    for (const { axis, index, element } of this.headers) {
      const mine = this.cells.filter(({ place }) => place[axis === 'x' ? 2 : 1] === index && model.number(place) !== null)
      element.classList.toggle('chosen', mine.length > 0 && mine.every(({ place }) => model.isChosen(place)))
      element.classList.toggle('at', view.at[axis === 'x' ? 2 : 1] === index)
    }
  }

  /** Brings the picture that is looked at into view. */
  reveal() {
    const cell = this.cells.find(({ place }) => same(place, this.model.view.at))
    cell?.element.scrollIntoView({ block: 'nearest', inline: 'nearest' })
  }

  /** @param {number} factor @param {number} [x] @param {number} [y] the point of the box that stays where it is */
  zoom(factor, x = this.element.clientWidth / 2, y = this.element.clientHeight / 2) {
    const { element } = this
    const before = this.cellPx, after = Math.round(Math.min(MAX_CELL_PX, Math.max(MIN_CELL_PX, before * factor)))
    const left = this.rowPx, top = this.columnPx
    const across = element.scrollLeft + x - left, down = element.scrollTop + y - top
    this.model.change({ cell: after })
    this.lay()
    const grown = after / before
    element.scrollLeft = across * grown - x + left
    element.scrollTop = down * grown - y + top
  }

  get cellPx() {
    return this.model.view.cell || this._fit()
  }

  get rowPx() {
    return this.headers.find(({ axis }) => axis === 'y')?.element.offsetWidth ?? 0
  }

  get columnPx() {
    return this.headers.find(({ axis }) => axis === 'x')?.element.offsetHeight ?? 0
  }

  get ratio() {
    const size = this.model.sheet?.size
    return size ? size[1] / size[0] : 1
  }

  lay() {
    const width = this.cellPx
    this.table.style.setProperty('--cell', `${width}px`)
    this._fitLabels(width)
    this.table.style.setProperty('--high', `${Math.round(width * this.ratio)}px`)
    this.table.style.setProperty('--left', `${this.rowPx}px`)
    this.table.style.setProperty('--top', `${this.columnPx}px`)
    for (const cell of this.cells) this._source(cell)
  }

  /** The headers' words as far as there is room for them. @param {number} width of a column, in px */
  _fitLabels(width) {
    const key = `${this.key}|${width}|${this.element.clientWidth}`
    if (key === this.fitted || !this.element.clientWidth) return
    this.fitted = key
    for (const { element, text } of this.headers) fitLabel(/** @type {HTMLElement} */ (element.firstElementChild), text)
  }

  /** As large as the whole page fits; where that would be tiny, as the width allows. */
  _fit() {
    const { clientWidth, clientHeight } = this.element, columns = this.model.count('x'), rows = this.model.count('y')
    const wide = (clientWidth - this.rowPx) / columns - GAP_PX, high = ((clientHeight - this.columnPx) / rows - GAP_PX) / this.ratio
    const whole = Math.floor(Math.min(wide, high))
    if (whole >= SMALLEST_FIT_PX) return Math.min(whole, MAX_CELL_PX)
    return Math.max(SMALLEST_FIT_PX, Math.min(Math.floor(wide), 2 * SMALLEST_FIT_PX))
  }

  /** @param {import('./model.mjs').Sheet} sheet @param {number} page */
  _build(sheet, page) {
    const columns = short(sheet.columns), rows = short(sheet.rows)
    const header = (/** @type {'x' | 'y'} */ axis, /** @type {string} */ text, /** @type {string} */ title, /** @type {number} */ index) => {
      const element = h('div', { class: `header header-${axis}`, role: axis === 'x' ? 'columnheader' : 'rowheader', title }, h('span', {}, text))
      this.headers.push({ axis, index, element, text })
      return element
    }
    this.headers = []
    this.cells = []
    const heads = columns.map((text, index) => header('x', text, sheet.columns[index], index))
    const lines = rows.flatMap((text, row) => [header('y', text, sheet.rows[row], row), ...columns.map((_, column) => this._cell([page, row, column]))])
    this.table.style.gridTemplateColumns = `max-content repeat(${columns.length}, var(--cell))`
    this.table.replaceChildren(h('div', { class: 'header corner' }), ...heads, ...lines)
  }

  /** @param {import('./view.mjs').Place} place */
  _cell(place) {
    const { model } = this
    const onclick = (/** @type {MouseEvent} */ event) => {
      if (this.wasDragged) return
      if (event.shiftKey) model.pin(model.view.a && !same(model.view.a, place) ? 'b' : 'a', place)
      else model.change({ at: place, mode: 'large' })
    }
    const element = h('div', { class: 'cell', role: 'gridcell', 'aria-label': model.label(place), onclick },
      h('img', { alt: '', draggable: 'false', hidden: true }), h('span', { class: 'cell-message' }), h('span', { class: 'badge' }), h('span', { class: 'star', title: this.t('chosen') }, '★'))
    this.cells.push({ place, element, url: '' })
    return element
  }

  /** @param {{place: import('./view.mjs').Place, element: HTMLElement, url: string}} cell */
  _mark({ place, element }) {
    const { model, t } = this, { view, sheet } = model, number = model.number(place)
    const isDrawn = number !== null && sheet?.drawn[number] != null, reason = number === null ? null : sheet?.failed[number]
    const [image, message, badge] = /** @type {HTMLElement[]} */ ([...element.children])
    image.hidden = !isDrawn
    message.textContent = isDrawn ? '' : number === null ? t('noEpoch') : reason ? t('failed', { reason }) : sheet?.running ? '' : t('notDrawn')
    badge.textContent = [same(place, view.a) ? 'A' : '', same(place, view.b) ? 'B' : ''].join('')
    element.classList.toggle('at', same(place, view.at))
    element.classList.toggle('pinned', same(place, view.a) || same(place, view.b))
    element.classList.toggle('chosen', model.isChosen(place))
    element.classList.toggle('waiting', !isDrawn && number !== null && !reason && Boolean(sheet?.running))
    element.setAttribute('aria-selected', String(same(place, view.at)))
  }

  /** @param {{place: import('./view.mjs').Place, element: HTMLElement, url: string}} cell */
  _source(cell) {
    const { sheet } = this.model, number = this.model.number(cell.place), written = number === null ? null : sheet?.drawn[number]
    if (!sheet || number === null || written == null) return
    const needed = Math.max(1, this.ratio) * this.cellPx * (window.devicePixelRatio || 1)
    const url = pictureUrl(sheet.sheet, number, written, needed > SMALL_PX * 1.25 ? 1536 : 256)
    if (url === cell.url || (cell.url && needed <= SMALL_PX * 1.25 && !cell.url.includes('side=256') && cell.url.includes(`of=${written}`))) return
    cell.url = url
    const image = /** @type {HTMLImageElement} */ (cell.element.firstElementChild)
    image.loading = 'lazy'
    image.src = url
    const size = sheet.size
    image.classList.toggle('pixels', Boolean(size && this.cellPx / size[0] >= 2.5))
  }

  /** @param {WheelEvent} event @param {(event: WheelEvent) => boolean} wantsWheel */
  _wheel(event, wantsWheel) {
    if (!wantsWheel(event)) return
    event.stopPropagation()
    if (!event.ctrlKey && !event.metaKey) return // it scrolls by itself
    event.preventDefault()
    const box = this.element.getBoundingClientRect(), scale = box.width / (this.element.offsetWidth || 1) || 1
    this.zoom(Math.exp(-event.deltaY * 0.002), (event.clientX - box.left) / scale, (event.clientY - box.top) / scale)
  }

  /** @param {PointerEvent} event */
  _pan(event) {
    this.wasDragged = false
    if (event.button !== 0) return
    const { element } = this, scale = element.getBoundingClientRect().width / (element.offsetWidth || 1) || 1
    const from = { x: event.clientX, y: event.clientY, left: element.scrollLeft, top: element.scrollTop }
    const end = new AbortController()
    const move = (/** @type {PointerEvent} */ next) => {
      const dx = next.clientX - from.x, dy = next.clientY - from.y
      if (!this.wasDragged && Math.hypot(dx, dy) < DRAG_PX) return
      if (!this.wasDragged) element.setPointerCapture(event.pointerId)
      this.wasDragged = true
      element.scrollLeft = from.left - dx / scale
      element.scrollTop = from.top - dy / scale
    }
    window.addEventListener('pointermove', move, { signal: end.signal })
    for (const type of ['pointerup', 'pointercancel']) window.addEventListener(type, () => end.abort(), { signal: end.signal })
  }

  dispose() {
    this.sizes.disconnect()
  }
}

/** Long labels that begin alike lose what they share, whole words only, and very long ones their middle; never the end, which is what differs. @param {string[]} labels */
export function short(labels) {
  const named = labels.filter((label) => !BARE.includes(label))
  const cut = Math.max(0, ...named.map((label) => label.length)) > LONG_LABEL ? sharedStart(named) : 0
  return labels.map((label) => {
    const text = cut < 6 || BARE.includes(label) ? label : `…${label.slice(cut)}`
    return withoutMiddle(characters(text), LONGEST_LABEL)
  })
}

/** Puts as much of `text` into `element`, which shows a few lines, as it has room for: its beginning and, above all, its end. @param {HTMLElement} element @param {string} text */
export function fitLabel(element, text) {
  const signs = characters(text)
  const fits = (/** @type {number} */ most) => {
    element.textContent = withoutMiddle(signs, most)
    return element.scrollHeight <= element.clientHeight + 1
  }
  // As bold as it is while its picture is looked at.
  element.style.fontWeight = '600'
  let low = 2, high = signs.length
  if (fits(high)) low = high
  while (low < high) {
    const middle = Math.ceil((low + high) / 2)
    if (fits(middle)) low = middle
    else high = middle - 1
  }
  fits(low)
  element.style.fontWeight = ''
}

/** @param {string[]} signs @param {number} most how many of them stay, a third from the beginning */
function withoutMiddle(signs, most) {
  if (signs.length <= most) return signs.join('')
  const first = Math.floor(most / 3)
  return `${signs.slice(0, first).join('').trimEnd()}…${signs.slice(signs.length - (most - first)).join('').trimStart()}`
}

/** What people take for single characters: an emoji of several parts is one. @param {string} text @returns {string[]} */
function characters(text) {
  const segmenter = 'Segmenter' in Intl ? new Intl.Segmenter() : undefined
  return segmenter ? [...segmenter.segment(text)].map(({ segment }) => segment) : [...text]
}

/** How many characters all labels begin with, up to the end of a word. @param {string[]} labels */
function sharedStart(labels) {
  if (labels.length < 2) return 0
  let shared = 0
  const first = labels[0], most = Math.min(...labels.map((label) => label.length)) - 1
  while (shared < most && labels.every((label) => label[shared] === first[shared])) shared++
  return Math.max(...[' ', ',', '-', '_', '/', '\\'].map((mark) => first.slice(0, shared).lastIndexOf(mark))) + 1
}
