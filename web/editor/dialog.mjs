// @ts-check
// The window of the editor around an opened listing: head, filter, grid, sides, foot.
import { fetchChosen, RefusedError } from '../api.js'
import { Cloud } from './cloud.mjs'
import { withSuggestions } from './complete.mjs'
import { debounced, h } from './dom.mjs'
import { Grid } from './grid.mjs'
import { helpPage, onKey } from './keys.mjs'
import { Large } from './large.mjs'
import { Panel } from './panel.mjs'
import { filterTerm, toggledTerm } from './tags.mjs'

const FILTER_WAIT_MS = 180
const SAY_MS = 6000

/**
 * @typedef {object} Outside
 * @property {(text: string) => void} save the hand edits into the node
 * @property {() => void} leave close the window
 * @property {() => void} discard close it and forget what is not saved
 * @property {number} numRestored pictures with edits of an earlier time that were never saved
 * @property {() => void} runAgain save, run and open anew
 * @property {boolean} isStale
 */

export class Editor {
  /** @param {import('./model.mjs').Model} model @param {import('./text.mjs').Translate} t @param {Outside} outside */
  constructor(model, t, outside) {
    this.model = model
    this.t = t
    this.outside = outside
    this.filter = h('input', { class: 'field filter', type: 'search', placeholder: t('filter'), 'aria-label': t('filter') })
    this.problem = h('p', { class: 'problem', hidden: true, role: 'alert' })
    this.grid = new Grid(model, t, () => this.openLarge())
    this.large = new Large(model, t, (steps) => this.move(steps, false), () => this.closeLarge())
    this.cloud = new Cloud(model, t, (term) => this.toggleTerm(term), () => this.filter.value)
    this.panel = new Panel(model, t, { say: (text) => this.say(text), addToFilter: (term) => this.toggleTerm(term), openLarge: () => this.openLarge() })
    this.help = helpPage(t, () => this.closeHelp())
    this.leaving = this._leaveQuestion()
    const button = (/** @type {string} */ label, /** @type {string} */ title, /** @type {() => void} */ onclick, kind = 'icon') => h('button', { class: kind, title, 'aria-label': title, onclick }, label)
    this.undoButton = button('↶', t('undo'), () => this.undo())
    this.redoButton = button('↷', t('redo'), () => this.redo())
    this.counter = h('span', { class: 'hint counter' })
    this.status = h('span', { class: 'status', role: 'status' })
    this.state = h('span', { class: 'hint' })
    this.saveButton = button(t('save'), t('saveHint'), () => this.save(), 'quiet')
    const size = h('input', { type: 'range', min: '90', max: '420', step: '10', value: '180', title: t('size'), 'aria-label': t('size') })
    size.oninput = () => this.grid.resize(Number(size.value))
    this.size = size
    const filterBox = withSuggestions(this.filter, {
      model, withLexicon: false, part: tagTermAtCaret, inserted: (tag) => filterTerm(tag).slice('tag:'.length), onEnter: () => this.applyFilter(),
    })
    const stale = outside.isStale && h('div', { class: 'stale' }, h('span', {}, t('stale')), h('button', { class: 'quiet', onclick: outside.runAgain }, t('runAgain')))
    this.restored = h('div', { class: 'stale restored', hidden: !outside.numRestored, role: 'status' }, h('span', {}, t('restored', { count: outside.numRestored })), h('span', { class: 'grow' }),
      h('button', { class: 'quiet', onclick: () => this.dropRestored() }, t('dropRestored')), button('×', t('closeNote'), () => { this.restored.hidden = true }))
    // Who clicks where nothing is leaves the focus here, where the keys are heard.
    this.element = h('div', { class: 'editor', tabindex: '-1' },
      h('header', {}, h('strong', { class: 'title' }, t('title')), filterBox, this.counter, this.undoButton, this.redoButton,
        button('⇥', t('nextUntagged'), () => this.nextUntagged()), size, button('?', t('help'), () => this.openHelp()), button('×', t('close'), () => this.leave())),
      this.problem, stale, this.restored,
      h('main', {}, this.cloud.element, h('section', { class: 'center' }, this.grid.element, this.large.element), this.panel.element),
      h('footer', {}, this.status, h('span', { class: 'grow' }), this.state, this.saveButton,
        h('button', { class: 'primary', onclick: () => { this.save(); this.outside.leave() } }, t('saveAndClose'))),
      this.help, this.leaving)
    this.askFilter = debounced(FILTER_WAIT_MS, () => this.applyFilter())
    this.filter.addEventListener('input', this.askFilter)
    this.element.addEventListener('keydown', (event) => {
      event.stopPropagation() // the graph behind has keys of its own
      if (onKey(event, this.commands)) event.preventDefault()
    })
    this.onCaptions = () => this.drawState()
    model.addEventListener('captions', this.onCaptions)
    model.addEventListener('selection', this.onCaptions)
    this.drawState()
  }

  /** @returns {import('./keys.mjs').Commands} */
  get commands() {
    return {
      move: (steps, isRange) => this.move(steps, isRange),
      moveRows: (rows, isRange) => this.move(this.large.isOpen ? Math.sign(rows) : rows * this.grid.columns, isRange),
      first: (isRange) => this.move(-Infinity, isRange), last: (isRange) => this.move(Infinity, isRange), rowsInView: () => this.grid.rowsInView,
      toggle: () => this.model.cursor >= 0 && this.model.pick(this.model.cursor, 'toggle'),
      all: () => this.model.select(this.model.shown), large: () => (this.large.isOpen ? this.closeLarge() : this.openLarge()), untagged: () => this.nextUntagged(),
      filter: () => this.filter.select(), add: () => this.panel.add.focus(), replace: () => this.panel.old.focus(), chips: () => this.panel.chips.focus(),
      cloud: () => this.cloud.find.select(), undo: () => this.undo(), redo: () => this.redo(), copy: () => this.panel.copy(), paste: () => this.panel.paste(),
      save: () => this.save(), help: () => this.openHelp(), back: () => this.back(),
      size: (step) => {
        this.grid.resize(this.grid.widthPx + step)
        this.size.value = String(this.grid.widthPx)
      },
    }
  }

  drawState() {
    const { model, t } = this
    this.counter.textContent = t('shown', { shown: model.shown.length, all: model.pictures.length })
    this.undoButton.disabled = !model.done.length
    this.redoButton.disabled = !model.undone.length
    this.saveButton.disabled = !model.isDirty
    const edited = model.edited.size ? t('edited', { count: model.edited.size }) : ''
    this.state.textContent = [model.selection.size > 1 ? t('selected', { count: model.selection.size }) : '', edited, model.isDirty ? t('unsaved') : ''].filter(Boolean).join(' · ')
  }

  /** @param {string} text */
  say(text) {
    this.status.textContent = text
    clearTimeout(this.sayTimer)
    this.sayTimer = window.setTimeout(() => { this.status.textContent = '' }, SAY_MS)
  }

  /** @param {number} steps @param {boolean} isRange */
  move(steps, isRange) {
    const { model } = this
    if (!model.shown.length) return
    const place = model.shown.indexOf(model.cursor)
    const next = place < 0 ? (steps === Infinity ? model.shown.length - 1 : 0) : Math.min(model.shown.length - 1, Math.max(0, place + steps))
    model.pick(model.shown[next], isRange && model.anchor >= 0 ? 'range' : 'alone')
    this.grid.scrollToCursor()
  }

  nextUntagged() {
    const number = this.model.nextUntagged()
    if (number < 0) return this.say(this.t('noUntagged'))
    this.model.pick(number, 'alone')
    this.grid.scrollToCursor()
  }

  undo() {
    this._tell('undone', this.model.undo())
  }

  redo() {
    this._tell('redone', this.model.redo())
  }

  /** @param {'undone' | 'redone'} key @param {unknown[] | undefined} step */
  _tell(key, step) {
    if (step) this.say(this.t(key, { count: step.length }))
  }

  /** Puts a term into the filter, or takes it out. @param {string} term */
  toggleTerm(term) {
    this.filter.value = toggledTerm(this.filter.value, term)
    this.applyFilter()
  }

  async applyFilter() {
    const text = this.filter.value.trim()
    const ticket = (this.ticket = (this.ticket ?? 0) + 1)
    try {
      const chosen = text ? await fetchChosen(this.model.id, text, this.model.editsText()) : this.model.pictures.map((_, number) => number)
      if (ticket !== this.ticket) return
      this.problem.hidden = true
      this.grid.element.scrollTop = 0
      this.model.show(chosen)
    } catch (error) {
      if (ticket !== this.ticket) return
      this.problem.textContent = error instanceof RefusedError ? error.message : String(error)
      this.problem.hidden = false
    }
  }

  openLarge() {
    const { model } = this
    if (model.cursor < 0 && model.shown.length) model.pick(model.shown[0], 'alone')
    if (model.cursor < 0) return
    if (model.selection.size !== 1) model.pick(model.cursor, 'alone')
    this.large.open()
    this.grid.element.focus({ preventScroll: true })
  }

  closeLarge() {
    this.large.close()
    this.grid.scrollToCursor()
    this.grid.element.focus({ preventScroll: true })
  }

  openHelp() {
    this.help.hidden = false
  }

  closeHelp() {
    this.help.hidden = true
  }

  /** Back to what the node holds; Redo brings all of it again. */
  dropRestored() {
    while (this.model.done.length) this.model.undo()
    this.restored.hidden = true
    this.grid.element.focus({ preventScroll: true })
  }

  save() {
    this.restored.hidden = true
    this.outside.save(this.model.editsText())
    this.model.markSaved()
    this.say(this.t('saved'))
  }

  /** One step back: help, question, field, large picture, selection, the editor. */
  back() {
    const isInGrid = this.grid.element.matches(':focus')
    if (!this.help.hidden) this.closeHelp()
    else if (!this.leaving.hidden) this.leaving.hidden = true
    else if (this.large.isOpen && isInGrid) this.closeLarge()
    else if (!isInGrid) this.grid.element.focus({ preventScroll: true })
    else if (this.model.selection.size > 1) this.model.select(this.model.cursor < 0 ? [] : [this.model.cursor])
    else this.leave()
  }

  leave() {
    if (!this.model.isDirty) return this.outside.leave()
    const save = this.leaving.querySelector('button.primary')
    this.leaving.hidden = false
    if (save instanceof HTMLElement) save.focus()
  }

  _leaveQuestion() {
    const { t } = this
    return h('div', { class: 'cover', hidden: true, role: 'alertdialog', 'aria-label': t('leaveQuestion') }, h('div', { class: 'box' },
      h('p', {}, t('leaveQuestion')),
      h('div', { class: 'row' },
        h('button', { class: 'quiet', onclick: () => this.outside.discard() }, t('discard')), h('span', { class: 'grow' }),
        h('button', { class: 'quiet', onclick: () => { this.leaving.hidden = true } }, t('stay')),
        h('button', { class: 'primary', onclick: () => { this.save(); this.outside.leave() } }, t('saveAndClose')))))
  }

  dispose() {
    for (const part of [this.grid, this.large, this.cloud, this.panel]) part.dispose()
    clearTimeout(this.sayTimer)
  }
}

/** Behind `tag:` in the filter line. @param {string} value @param {number} caret */
function tagTermAtCaret(value, caret) {
  const match = /tag:("?)([^"]*)$/i.exec(value.slice(0, caret))
  if (!match || (!match[1] && /\s/.test(match[2]))) return null
  return { start: caret - match[1].length - match[2].length, end: caret, text: match[2] }
}
