// @ts-check
// The viewer as an element, on the node or full screen: a bar, then grid, picture, comparison or blind votes, and the parameters.
import { h } from '../editor/dom.mjs'
import { Blind } from './blind.mjs'
import { FactsView } from './facts.mjs'
import { Grid, short } from './grid.mjs'
import { helpPage, onKey } from './keys.mjs'
import { zoomBy } from './pane.mjs'
import { Stage } from './stage.mjs'

const STYLE = new URL('./viewer.css', import.meta.url).href
const SAY_MS = 8000
// Lines in a square of 16, because fonts draw such signs very differently.
const FULL = 'M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4', FIT = 'M2.5 3.5h11v9h-11zM6 8h4', INFO = 'M8 7.2v4.3M8 4.4v.2M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0'

/**
 * @typedef {object} Outside
 * @property {() => void} use takes the epoch of the picture that is looked at
 * @property {() => void} full shows all this full screen, or ends that
 * @property {boolean} isFull
 */

export class Viewer {
  /** @param {import('./model.mjs').Model} model @param {import('./text.mjs').Translate} t @param {Outside} outside */
  constructor(model, t, outside) {
    this.model = model
    this.t = t
    this.outside = outside
    this.root = h('div', { class: 'viewer', tabindex: '0', role: 'region', 'aria-label': t('title'), 'data-full': String(outside.isFull) })
    const wantsWheel = () => outside.isFull || this.root.matches(':focus-within')
    this.grid = new Grid(model, t, wantsWheel)
    this.stage = new Stage(model, t, wantsWheel)
    this.blind = new Blind(model, t, wantsWheel)
    this.facts = new FactsView(model, t, { use: outside.use })
    this.help = helpPage(t, () => { this.help.hidden = true })
    const icon = (/** @type {Node | string} */ label, /** @type {import('./text.mjs').TextKey} */ hint, /** @type {() => void} */ onclick) => h('button', { class: 'icon', title: t(hint), 'aria-label': t(hint), onclick }, label)
    const mode = (/** @type {'grid' | 'large' | 'compare' | 'blind'} */ name) => h('button', { class: 'mode', 'data-mode': name, title: t(`${name}Hint`), onclick: () => (name === 'compare' ? model.compare() : model.change({ mode: name })) }, t(name))
    this.pages = h('select', { title: t('page'), 'aria-label': t('page'), onchange: () => model.change({ at: [Number(this.pages.value), model.view.at[1], model.view.at[2]] }) })
    this.pager = h('div', { class: 'pager' }, icon('‹', 'previousPage', () => model.walk('z', -1, true)), this.pages, icon('›', 'nextPage', () => model.walk('z', 1, true)))
    this.status = h('span', { class: 'status' })
    this.note = h('div', { class: 'note', role: 'status', hidden: true })
    this.empty = h('div', { class: 'empty' }, t('empty'))
    this.bar = h('header', {}, h('div', { class: 'modes' }, mode('grid'), mode('large'), mode('compare'), mode('blind')), this.pager, h('span', { class: 'grow' }), this.status,
      icon('−', 'zoomOut', () => this.zoom(0.8)), icon(drawing(FIT), 'zoomFit', () => this.zoom(0)), icon('+', 'zoomIn', () => this.zoom(1.25)),
      icon(drawing(INFO), 'facts', () => model.change({ facts: !model.view.facts })), icon('?', 'help', () => { this.help.hidden = false }),
      icon(outside.isFull ? '×' : drawing(FULL), outside.isFull ? 'close' : 'full', outside.full))
    this.body = h('main', {}, h('section', {}, this.grid.element, this.stage.element, this.blind.element), this.facts.element)
    this.root.append(this.empty, this.bar, this.body, this.note, this.help)
    this.element = h('div', { class: 'athanor-viewer' })
    this.element.attachShadow({ mode: 'open' }).append(h('link', { rel: 'stylesheet', href: STYLE }), this.root)
    this.root.addEventListener('keydown', (event) => this._key(event))
    this.root.addEventListener('pointerdown', (event) => this._focus(event))
    this.listeners = new AbortController()
    const { signal } = this.listeners
    for (const what of ['sheet', 'state', 'view']) model.addEventListener(what, () => this._drawSoon(), { signal })
    model.addEventListener('said', () => this._say(), { signal })
    this.pageOf = ''
    this.frame = 0
    this.isPaused = false
    this.draw()
  }

  /** While the same is shown elsewhere. @param {boolean} isPaused */
  pause(isPaused) {
    this.isPaused = isPaused
    if (isPaused) return
    this.blind.forget()
    this.draw()
  }

  draw() {
    if (this.isPaused) return
    const { model, t } = this, { sheet, view } = model
    this.empty.hidden = Boolean(sheet)
    this.bar.hidden = this.body.hidden = !sheet
    if (!sheet) return
    const isBlind = view.mode === 'blind', isGrid = view.mode === 'grid'
    for (const button of this.bar.querySelectorAll('[data-mode]')) button.setAttribute('aria-pressed', String(button.getAttribute('data-mode') === view.mode))
    const pages = JSON.stringify(sheet.pages)
    if (pages !== this.pageOf) this.pages.replaceChildren(...short(sheet.pages).map((page, i) => h('option', { value: i }, `${i + 1} / ${sheet.pages.length}${page ? `  ${page}` : ''}`)))
    this.pageOf = pages
    this.pages.value = String(view.at[0])
    this.pages.title = sheet.pages[view.at[0]] || t('page')
    this.pager.hidden = sheet.pages.length < 2 || isBlind
    this.grid.element.hidden = !isGrid
    this.stage.element.hidden = isGrid || isBlind
    this.blind.element.hidden = !isBlind
    this.facts.element.hidden = !view.facts || isBlind
    if (isGrid) this.grid.draw()
    else if (isBlind) this.blind.draw()
    else this.stage.draw()
    if (!this.facts.element.hidden) this.facts.draw()
    this.root.dataset.mode = view.mode
    this._progress(sheet)
  }

  /** Once a frame, however much changes. */
  _drawSoon() {
    if (this.frame) return
    this.frame = requestAnimationFrame(() => {
      this.frame = 0
      if (this.listeners.signal.aborted) return
      this.draw()
      if (this.outside.isFull) setTimeout(() => this._keepKeys())
    })
  }

  /** Full screen the keys are always the viewer's, also when the button that had them is gone. */
  _keepKeys() {
    if (!this.listeners.signal.aborted && !this.root.matches(':focus-within')) this.focus()
  }

  /** @param {string} text where there is nothing to show */
  setEmpty(text) {
    this.empty.textContent = text
  }

  /** By a factor; 0 fits. @param {number} factor */
  zoom(factor) {
    const { model } = this, { mode } = model.view
    if (mode === 'grid') factor ? this.grid.zoom(factor) : model.change({ cell: 0 })
    else if (!factor) model.change({ zoom: 1, centre: [0.5, 0.5] })
    else zoomBy(model, mode === 'blind' ? this.blind.left : this.stage.a, factor)
  }

  focus() {
    this.root.focus({ preventScroll: true })
  }

  dispose() {
    this.listeners.abort()
    clearTimeout(this.sayTimer)
    for (const part of [this.grid, this.stage, this.blind]) part.dispose()
  }

  /** @param {import('./model.mjs').Sheet} sheet */
  _progress(sheet) {
    const done = this.model.numDrawn, total = sheet.pictures.length
    this.status.textContent = this.status.title = done === total ? '' : this.t(sheet.running ? 'running' : 'missing', { done, total })
    this.status.classList.toggle('is-running', sheet.running)
  }

  _say() {
    clearTimeout(this.sayTimer)
    this.note.textContent = this.model.said
    this.note.hidden = !this.model.said
    this.sayTimer = window.setTimeout(() => { this.note.hidden = true }, SAY_MS)
  }

  /** @param {KeyboardEvent} event */
  _key(event) {
    const isOurs = onKey(event, this.model, this.blind, {
      use: this.outside.use, full: this.outside.full, help: () => { this.help.hidden = !this.help.hidden }, back: () => this._back(),
      zoom: (factor) => this.zoom(factor), reveal: () => requestAnimationFrame(() => this.grid.reveal()),
    })
    if (isOurs) event.preventDefault()
    if (isOurs || this.outside.isFull) event.stopPropagation() // the graph behind has keys of its own
  }

  /** One step back: help, picture, full screen, the graph. */
  _back() {
    if (!this.help.hidden) this.help.hidden = true
    else if (this.model.view.mode !== 'grid') this.model.change({ mode: 'grid' })
    else if (this.outside.isFull) this.outside.full()
    else this.root.blur()
  }

  /** Clicks give the viewer its keys, and are none for the node below it. @param {PointerEvent} event */
  _focus(event) {
    if (event.button !== 0) return
    event.stopPropagation()
    const target = /** @type {HTMLElement} */ (event.composedPath()[0])
    if (!target.closest('button, select, a')) setTimeout(() => this.focus())
    else if (target.closest('button')) setTimeout(() => this.root.matches(':focus-within') || this.focus())
  }
}

/** @param {string} path */
function drawing(path) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg'), line = document.createElementNS('http://www.w3.org/2000/svg', 'path')
  svg.setAttribute('viewBox', '0 0 16 16')
  line.setAttribute('d', path)
  svg.append(line)
  return svg
}
