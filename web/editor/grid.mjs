// @ts-check
// The grid of pictures. Only the cards in view exist; scrolling reuses them.
import { thumbnailUrl } from '../api.js'
import { categoryClass, h } from './dom.mjs'

const GAP_PX = 10
const NAME_PX = 24
const CHIPS_PX = 50
const MIN_WIDTH_FOR_CHIPS_PX = 150
const MAX_CHIPS = 14
const SETTLED_MS = 70
const FAST_PX_PER_MS = 6
/** Drawn above and below what is in view, since the browser scrolls before scripts hear of it. */
const ROWS_AROUND = 2

export class Grid {
  /** @param {import('./model.mjs').Model} model @param {import('./text.mjs').Translate} t @param {(number: number) => void} openLarge */
  constructor(model, t, openLarge) {
    this.model = model
    this.t = t
    this.widthPx = 180
    this.space = h('div', { class: 'grid-space', role: 'presentation' })
    this.empty = h('p', { class: 'grid-empty', hidden: true }, t('noMatch'))
    this.element = h('div', { class: 'grid', role: 'listbox', tabindex: '0', 'aria-multiselectable': 'true', 'aria-label': t('title') }, this.space, this.empty)
    /** Cards by the place of their picture among those shown. @type {Map<number, Card>} */
    this.cards = new Map()
    /** @type {Card[]} */
    this.unused = []
    this.columns = 1
    this.frame = 0
    this.lastTop = 0
    this.lastTime = 0
    this.settled = 0
    this.element.addEventListener('scroll', () => this._onScroll(), { passive: true })
    this.element.addEventListener('click', (event) => {
      const number = numberAt(event)
      if (number < 0) return
      model.pick(number, event.shiftKey ? 'range' : event.ctrlKey || event.metaKey ? 'toggle' : 'alone')
      this.element.focus({ preventScroll: true })
    })
    this.element.addEventListener('dblclick', (event) => numberAt(event) >= 0 && openLarge(numberAt(event)))
    this.observer = new ResizeObserver(() => this.layout())
    this.observer.observe(this.element)
    this.onCaptions = () => this.refresh()
    this.onSelection = () => this.layout()
    model.addEventListener('captions', this.onCaptions)
    model.addEventListener('selection', this.onSelection)
  }

  get hasChips() {
    return this.cardPx >= MIN_WIDTH_FOR_CHIPS_PX
  }

  get rowPx() {
    return this.cardPx + NAME_PX + (this.hasChips ? CHIPS_PX : 0) + GAP_PX
  }

  get rowsInView() {
    return Math.max(1, Math.floor(this.element.clientHeight / this.rowPx))
  }

  /** @param {number} widthPx */
  resize(widthPx) {
    this.widthPx = Math.min(420, Math.max(90, widthPx))
    this.layout()
    this.scrollToCursor()
  }

  layout() {
    const inner = this.element.clientWidth - 2 * GAP_PX
    this.columns = Math.max(1, Math.floor((inner + GAP_PX) / (this.widthPx + GAP_PX)))
    this.cardPx = Math.floor((inner + GAP_PX) / this.columns) - GAP_PX
    const rows = Math.ceil(this.model.shown.length / this.columns)
    this.space.style.height = `${rows * this.rowPx + GAP_PX}px`
    this.empty.hidden = this.model.shown.length > 0
    this.refresh()
  }

  /** Draws every card in view anew. */
  refresh() {
    for (const card of this.cards.values()) card.isFresh = false
    this._schedule()
  }

  _onScroll() {
    const now = performance.now()
    const speed = Math.abs(this.element.scrollTop - this.lastTop) / Math.max(1, now - this.lastTime)
    this.lastTop = this.element.scrollTop
    this.lastTime = now
    this.isFast = speed > FAST_PX_PER_MS
    clearTimeout(this.settled)
    this.settled = window.setTimeout(() => {
      this.isFast = false
      this._schedule()
    }, SETTLED_MS)
    this._schedule()
  }

  _schedule() {
    if (!this.frame) this.frame = requestAnimationFrame(() => this._draw())
  }

  _draw() {
    this.frame = 0
    if (!this.cardPx || !this.element.isConnected) return
    const { scrollTop, clientHeight } = this.element
    const first = Math.max(0, Math.floor(scrollTop / this.rowPx) - ROWS_AROUND) * this.columns
    const end = Math.min(this.model.shown.length, (Math.ceil((scrollTop + clientHeight) / this.rowPx) + ROWS_AROUND) * this.columns)
    for (const [place, card] of this.cards) {
      if (place < first || place >= end) {
        this.cards.delete(place)
        this.unused.push(card)
      }
    }
    for (let place = first; place < end; place++) {
      let card = this.cards.get(place)
      if (!card) {
        card = this.unused.pop() ?? this._newCard()
        this.cards.set(place, card)
        card.isFresh = false
      }
      if (!card.isFresh) this._fill(card, place)
      if (!this.isFast) card.load()
    }
    for (const card of this.unused.splice(0)) card.element.remove()
    const cursor = this.model.shown.indexOf(this.model.cursor)
    if (this.cards.has(cursor)) this.element.setAttribute('aria-activedescendant', `athanor-card-${this.model.cursor}`)
    else this.element.removeAttribute('aria-activedescendant')
  }

  _newCard() {
    const card = new Card(this.model.id)
    this.space.append(card.element)
    return card
  }

  /** @param {Card} card @param {number} place */
  _fill(card, place) {
    const { model, t } = this
    const number = model.shown[place]
    const picture = model.pictures[number]
    const { element } = card
    const row = Math.floor(place / this.columns)
    element.style.transform = `translate(${GAP_PX + (place % this.columns) * (this.cardPx + GAP_PX)}px, ${GAP_PX + row * this.rowPx}px)`
    element.style.width = `${this.cardPx}px`
    element.style.height = `${this.rowPx - GAP_PX}px`
    element.id = `athanor-card-${number}`
    element.dataset.number = String(number)
    element.title = picture.key
    element.classList.toggle('is-cursor', number === model.cursor)
    element.setAttribute('aria-selected', String(model.selection.has(number)))
    element.setAttribute('aria-label', `${picture.name}: ${model.captions[number].join(', ') || t('noTags')}`)
    element.setAttribute('aria-posinset', String(place + 1))
    element.setAttribute('aria-setsize', String(model.shown.length))
    card.frame.style.height = `${this.cardPx}px`
    card.show(number)
    const count = model.captions[number].length
    card.badges.replaceChildren(
      ...(picture.role === 'train' ? [] : [h('span', { class: 'badge badge-role' }, t(picture.role === 'validation' ? 'held' : 'regularization'))]),
      ...(model.edited.has(number) ? [h('span', { class: 'badge badge-edited', title: t('isEdited') }, '✎')] : []),
      h('span', { class: count ? 'badge' : 'badge badge-none' }, count ? String(count) : t('noTags')),
    )
    card.name.textContent = picture.name
    card.chips.hidden = !this.hasChips
    if (this.hasChips) {
      const tags = model.captions[number].slice(0, MAX_CHIPS)
      card.chips.replaceChildren(...tags.map((tag) => h('span', { class: `chip small ${categoryClass(model.categoryOf(tag))}` }, tag)))
    }
    card.isFresh = true
  }

  scrollToCursor() {
    const place = this.model.shown.indexOf(this.model.cursor)
    if (place < 0) return
    const top = Math.floor(place / this.columns) * this.rowPx
    const { scrollTop, clientHeight } = this.element
    if (top < scrollTop) this.element.scrollTop = top
    else if (top + this.rowPx + GAP_PX > scrollTop + clientHeight) this.element.scrollTop = top + this.rowPx + GAP_PX - clientHeight
  }

  dispose() {
    this.observer.disconnect()
    cancelAnimationFrame(this.frame)
    clearTimeout(this.settled)
    this.model.removeEventListener('captions', this.onCaptions)
    this.model.removeEventListener('selection', this.onSelection)
  }
}

class Card {
  /** @param {string} listing */
  constructor(listing) {
    this.listing = listing
    this.isFresh = false
    this.number = -1
    this.wanted = ''
    this.image = h('img', { alt: '', decoding: 'async', draggable: 'false' })
    this.image.onload = () => this.image.classList.add('is-loaded')
    this.image.onerror = () => this.frame.classList.add('is-broken')
    this.badges = h('div', { class: 'badges' })
    this.frame = h('div', { class: 'frame' }, this.image, this.badges)
    this.name = h('div', { class: 'name' })
    this.chips = h('div', { class: 'card-chips' })
    this.element = h('div', { class: 'card', role: 'option' }, this.frame, this.name, this.chips)
  }

  /** @param {number} number */
  show(number) {
    if (number === this.number) return
    this.number = number
    this.wanted = thumbnailUrl(this.listing, number, 256)
    this.frame.classList.remove('is-broken')
    this.image.classList.remove('is-loaded')
    this.image.removeAttribute('src')
  }

  load() {
    if (!this.wanted) return
    this.image.src = this.wanted
    this.wanted = ''
  }
}

/** @param {Event} event */
function numberAt(event) {
  const card = /** @type {HTMLElement} */ (event.target).closest('.card')
  return card instanceof HTMLElement ? Number(card.dataset.number) : -1
}
