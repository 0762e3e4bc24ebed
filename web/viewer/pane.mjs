// @ts-check
// One picture in a box, at the zoom and place that all boxes share.
import { pictureUrl } from '../api.js'
import { h } from '../editor/dom.mjs'

const PIXELS_FROM = 2.5

export class Pane {
  /** @param {import('./model.mjs').Model} model @param {import('./text.mjs').Translate} t */
  constructor(model, t) {
    this.model = model
    this.t = t
    this.image = h('img', { alt: '', draggable: 'false' })
    this.message = h('div', { class: 'pane-message' })
    this.element = h('div', { class: 'pane' }, this.image, this.message)
    this.url = ''
    this.image.addEventListener('load', () => this.lay())
  }

  /** Shows picture `number`; what was shown stays until it is there. @param {number | null} number @param {string} label */
  show(number, label) {
    const { sheet } = this.model, { t } = this
    const written = number === null ? null : sheet?.drawn[number]
    const reason = number === null ? null : sheet?.failed[number]
    const text = number === null ? t('noEpoch') : reason && !written ? t('failed', { reason }) : !written ? t('notDrawn') : ''
    this.message.textContent = text
    this.image.hidden = Boolean(text)
    this.image.alt = label
    if (text || !sheet || number === null) {
      this.url = ''
      return
    }
    const url = pictureUrl(sheet.sheet, number, /** @type {number} */ (written), 0)
    if (url === this.url) return
    this.url = url
    const next = new Image()
    next.src = url
    next.decode().catch(() => {}).then(() => {
      if (url !== this.url) return
      this.image.src = url
      this.lay()
    })
  }

  /** Puts the picture where the view wants it. */
  lay() {
    const { image, element } = this, { zoom, centre } = this.model.view
    const wide = element.clientWidth, high = element.clientHeight, { naturalWidth, naturalHeight } = image
    if (!naturalWidth || !wide || !high) return
    const scale = Math.min(wide / naturalWidth, high / naturalHeight) * zoom
    const width = naturalWidth * scale, height = naturalHeight * scale
    image.style.width = `${width}px`
    image.style.height = `${height}px`
    image.style.left = `${wide / 2 - held(centre[0], width, wide) * width}px`
    image.style.top = `${high / 2 - held(centre[1], height, high) * height}px`
    image.classList.toggle('pixels', scale >= PIXELS_FROM)
  }

  /** Where in the picture a point of the box lies, 0 to 1. @param {number} x @param {number} y */
  at(x, y) {
    const { offsetLeft, offsetTop, offsetWidth, offsetHeight } = this.image
    return /** @type {[number, number]} */ ([(x - offsetLeft) / (offsetWidth || 1), (y - offsetTop) / (offsetHeight || 1)])
  }
}

/** The middle of what is seen, so that the picture never leaves the box. @param {number} centre @param {number} size @param {number} box */
export function held(centre, size, box) {
  const half = box / 2 / size
  return half >= 0.5 ? 0.5 : Math.min(1 - half, Math.max(half, centre))
}

/**
 * Wheel and pointer on boxes that share a view: zoom around the pointer, drag to pan.
 * @param {HTMLElement} element @param {() => Pane[]} panes the first decides where things are
 * @param {import('./model.mjs').Model} model
 * @param {{wantsWheel: (event: WheelEvent) => boolean, onDrag?: (event: PointerEvent, share: number) => boolean}} options `onDrag` takes a drag for itself; `share` is where in the box it is, 0 left to 1 right
 */
export function zoomable(element, panes, model, { wantsWheel, onDrag }) {
  const scaleOf = () => element.getBoundingClientRect().width / (element.offsetWidth || 1) || 1
  const paneAt = (/** @type {MouseEvent} */ event) => panes().find((pane) => event.composedPath().includes(pane.element)) ?? panes()[0]
  element.addEventListener('wheel', (event) => {
    if (!wantsWheel(event)) return
    event.preventDefault()
    event.stopPropagation()
    const box = paneAt(event).element.getBoundingClientRect(), scale = scaleOf()
    zoomBy(model, paneAt(event), Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0018)), (event.clientX - box.left) / scale, (event.clientY - box.top) / scale)
  }, { passive: false })
  element.addEventListener('pointerdown', (event) => {
    if (event.button !== 0 || /** @type {HTMLElement} */ (event.composedPath()[0]).closest('button')) return
    const box = element.getBoundingClientRect(), pane = paneAt(event), scale = scaleOf()
    const share = (/** @type {PointerEvent} */ each) => Math.min(1, Math.max(0, (each.clientX - box.left) / box.width))
    const isTaken = onDrag?.(event, share(event)) ?? false
    let last = event
    element.setPointerCapture(event.pointerId)
    const move = (/** @type {PointerEvent} */ next) => {
      if (isTaken) return void onDrag?.(next, share(next))
      const { offsetWidth, offsetHeight } = pane.image, { centre } = model.view
      if (!offsetWidth) return
      const x = held(centre[0], offsetWidth, pane.element.clientWidth) - (next.clientX - last.clientX) / scale / offsetWidth
      const y = held(centre[1], offsetHeight, pane.element.clientHeight) - (next.clientY - last.clientY) / scale / offsetHeight
      last = next
      model.change({ centre: [clamp(x), clamp(y)] })
    }
    const end = new AbortController()
    element.addEventListener('pointermove', move, { signal: end.signal })
    for (const type of ['pointerup', 'pointercancel']) element.addEventListener(type, () => end.abort(), { signal: end.signal })
  })
}

/** @param {import('./model.mjs').Model} model @param {Pane} pane @param {number} factor @param {number} [x] @param {number} [y] the point of the box that stays where it is */
export function zoomBy(model, pane, factor, x = pane.element.clientWidth / 2, y = pane.element.clientHeight / 2) {
  const zoom = Math.min(64, Math.max(1, model.view.zoom * factor)), real = zoom / model.view.zoom
  const { clientWidth, clientHeight } = pane.element, [px, py] = pane.at(x, y)
  const width = (pane.image.offsetWidth || 1) * real, height = (pane.image.offsetHeight || 1) * real
  model.change({ zoom, centre: [clamp(px + (clientWidth / 2 - x) / width), clamp(py + (clientHeight / 2 - y) / height)] })
}

/** @param {number} value */
function clamp(value) {
  return Math.min(1, Math.max(0, value))
}
