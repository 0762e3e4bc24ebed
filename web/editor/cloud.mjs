// @ts-check
// All tags of the pictures with their counts; a click filters.
import { categoryClass, debounced, h } from './dom.mjs'
import { filterTerm, hasTerm, matchKey } from './tags.mjs'

const MAX_ROWS = 250
const WAIT_MS = 60

export class Cloud {
  /**
   * @param {import('./model.mjs').Model} model
   * @param {import('./text.mjs').Translate} t
   * @param {(term: string) => void} toggleFilter
   * @param {() => string} filterText
   */
  constructor(model, t, toggleFilter, filterText) {
    this.model = model
    this.t = t
    this.filterText = filterText
    this.isByName = false
    this.find = h('input', { type: 'search', class: 'field', placeholder: t('findTag'), 'aria-label': t('findTag'), spellcheck: 'false' })
    this.find.oninput = () => this.draw()
    this.order = h('button', { class: 'quiet', onclick: () => this._turnOrder() })
    this.total = h('span', { class: 'hint' })
    this.list = h('div', { class: 'cloud-list', title: t('cloudHint') })
    this.element = h('aside', { class: 'cloud', 'aria-label': t('tags') },
      h('div', { class: 'side-head' }, h('strong', {}, t('tags')), this.total, h('span', { class: 'grow' }), this.order), this.find, this.list)
    this.list.addEventListener('click', (event) => {
      const row = /** @type {HTMLElement} */ (event.target).closest('button')
      if (row?.dataset.tag) toggleFilter(event.altKey ? `NOT ${filterTerm(row.dataset.tag)}` : filterTerm(row.dataset.tag))
    })
    this.list.addEventListener('keydown', (event) => {
      const step = { ArrowUp: 'previousElementSibling', ArrowDown: 'nextElementSibling' }[event.key]
      if (!step) return
      const next = /** @type {any} */ (event.target)[step]
      if (next instanceof HTMLElement) next.focus()
      event.preventDefault()
      event.stopPropagation()
    })
    this.onChange = debounced(WAIT_MS, () => this.draw())
    model.addEventListener('captions', this.onChange)
    model.addEventListener('selection', this.onChange)
    this._turnOrder(false)
  }

  /** @param {boolean} [isByName] */
  _turnOrder(isByName = !this.isByName) {
    this.isByName = isByName
    this.order.textContent = this.t(isByName ? 'byName' : 'byCount')
    this.draw()
  }

  draw() {
    const { model } = this
    const isAll = model.shown.length === model.pictures.length
    const counts = isAll ? model.counts() : model.countsOf(model.shown)
    const selected = model.countsOf(model.selection.size <= 500 ? model.selection : [])
    const wanted = matchKey(this.find.value)
    const rows = [...counts].filter(([key]) => key.includes(wanted))
    rows.sort(([key, one], [other, two]) => (this.isByName ? 0 : two.count - one.count) || (key < other ? -1 : 1))
    const most = Math.max(1, ...rows.slice(0, 1).map(([, { count }]) => count), this.isByName ? model.shown.length : 1)
    const filter = this.filterText()
    this.total.textContent = String(counts.size)
    this.list.replaceChildren(...rows.slice(0, MAX_ROWS).map(([key, { tag, count }]) => {
      const term = filterTerm(tag)
      const row = h('button', {
        class: `cloud-row ${categoryClass(model.categoryOf(tag))}${hasTerm(filter, term) ? ' is-filter' : ''}${selected.has(key) ? ' is-selected' : ''}`,
        style: `--share: ${(100 * count) / most}%`,
      }, h('span', { class: 'cloud-tag' }, tag), h('span', { class: 'cloud-count' }, String(count)))
      row.dataset.tag = tag
      return row
    }))
    if (rows.length > MAX_ROWS) this.list.append(h('p', { class: 'hint' }, this.t('more', { count: rows.length - MAX_ROWS })))
  }

  dispose() {
    this.model.removeEventListener('captions', this.onChange)
    this.model.removeEventListener('selection', this.onChange)
  }
}
