// @ts-check
// One picture at full size, or two against each other: by a slider, by flipping, as their difference.
import { h } from '../editor/dom.mjs'
import { Pane, zoomable } from './pane.mjs'
import { GAINS } from './view.mjs'

const NEAR_PX = 14

export class Stage {
  /** @param {import('./model.mjs').Model} model @param {import('./text.mjs').Translate} t @param {(event: WheelEvent) => boolean} wantsWheel */
  constructor(model, t, wantsWheel) {
    this.model = model
    this.t = t
    this.a = new Pane(model, t)
    this.b = new Pane(model, t)
    this.layers = h('div', { class: 'layers' }, this.a.element, this.b.element)
    this.line = h('div', { class: 'line', role: 'slider', 'aria-label': t('slider'), 'aria-valuemin': '0', 'aria-valuemax': '100' }, h('div', { class: 'knob' }, '⇔'))
    const tag = (/** @type {'a' | 'b'} */ side) => h('button', { class: `tag tag-${side}`, title: t('walks'), onclick: () => model.change({ walks: side, at: model.view[side] ?? model.view.at }) })
    this.tags = { a: tag('a'), b: tag('b') }
    const way = (/** @type {'slider' | 'flip' | 'difference'} */ name) => h('button', { class: 'quiet', 'data-way': name, title: t(`${name}Hint`), onclick: () => model.change({ way: name }) }, t(name))
    this.gains = h('select', { title: t('gain'), 'aria-label': t('gain'), onchange: () => model.change({ gain: Number(this.gains.value) }) }, ...GAINS.map((gain) => h('option', { value: gain }, `× ${gain}`)))
    this.ways = h('div', { class: 'ways' }, way('slider'), way('flip'), way('difference'), this.gains, h('button', { class: 'quiet', title: t('swap'), 'aria-label': t('swap'), onclick: () => model.swap() }, '⇄'))
    this.caption = h('div', { class: 'caption' })
    this.element = h('div', { class: 'stage' }, this.layers, this.line, this.tags.a, this.tags.b, this.caption, this.ways)
    zoomable(this.layers, () => [this.a, this.b], model, { wantsWheel, onDrag: (event, share) => this._drag(event, share) })
    this.line.addEventListener('pointerdown', (event) => this._grip(event))
    this.sizes = new ResizeObserver(() => this.lay())
    this.sizes.observe(this.layers)
  }

  draw() {
    const { model } = this, { view } = model
    const isPair = view.mode === 'compare' && view.a && view.b
    const [a, b] = isPair ? [view.a, view.b] : [view.at, null]
    if (a) this.a.show(model.number(a), model.label(a))
    if (b) this.b.show(model.number(b), model.label(b))
    this.element.dataset.way = isPair ? view.way : 'one'
    for (const part of [this.tags.a, this.tags.b, this.ways, this.b.element]) part.hidden = !isPair
    this.line.hidden = !isPair || view.way !== 'slider'
    this.caption.hidden = Boolean(isPair)
    this.caption.textContent = model.label(view.at)
    this.gains.hidden = view.way !== 'difference'
    this.gains.value = String(view.gain)
    for (const button of this.ways.querySelectorAll('[data-way]')) button.setAttribute('aria-pressed', String(button.getAttribute('data-way') === view.way))
    if (isPair) {
      for (const side of /** @type {const} */ (['a', 'b'])) {
        const place = view[side], element = this.tags[side]
        element.textContent = `${side.toUpperCase()}  ${place ? model.label(place) : ''}`
        element.setAttribute('aria-pressed', String(view.walks === side))
        element.classList.toggle('is-away', view.way === 'flip' && view.flipped !== (side === 'b'))
      }
      this.b.element.style.clipPath = view.way === 'slider' ? `inset(0 0 0 ${100 * view.slider}%)` : ''
      this.b.element.style.visibility = view.way === 'flip' && !view.flipped ? 'hidden' : ''
      this.a.element.style.visibility = view.way === 'flip' && view.flipped ? 'hidden' : ''
      this.a.element.style.clipPath = view.way === 'slider' ? `inset(0 ${100 - 100 * view.slider}% 0 0)` : ''
      this.line.style.left = `${100 * view.slider}%`
      this.line.setAttribute('aria-valuenow', String(Math.round(100 * view.slider)))
    } else {
      this.a.element.style.clipPath = this.a.element.style.visibility = ''
    }
    this.layers.style.filter = isPair && view.way === 'difference' && view.gain > 1 ? `brightness(${view.gain})` : ''
    this.lay()
  }

  lay() {
    this.a.lay()
    this.b.lay()
  }

  /** A drag on the pictures moves the line while everything is in view, and near the line always. @param {PointerEvent} event @param {number} share */
  _drag(event, share) {
    const { model } = this, { mode, way, zoom, slider } = model.view
    if (mode !== 'compare' || way !== 'slider') return false
    if (event.type === 'pointerdown' && zoom > 1 && Math.abs(share - slider) * this.layers.clientWidth > NEAR_PX) return false
    model.change({ slider: share })
    return true
  }

  /** @param {PointerEvent} event */
  _grip(event) {
    if (event.button !== 0) return
    event.preventDefault()
    const box = this.layers.getBoundingClientRect(), end = new AbortController()
    this.line.setPointerCapture(event.pointerId)
    this.line.addEventListener('pointermove', (next) => this.model.change({ slider: Math.min(1, Math.max(0, (next.clientX - box.left) / box.width)) }), { signal: end.signal })
    for (const type of ['pointerup', 'pointercancel']) this.line.addEventListener(type, () => end.abort(), { signal: end.signal })
  }

  dispose() {
    this.sizes.disconnect()
  }
}
