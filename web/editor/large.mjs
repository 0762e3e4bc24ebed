// @ts-check
// One picture large, over the grid.
import { thumbnailUrl } from '../api.js'
import { h } from './dom.mjs'

export class Large {
  /** @param {import('./model.mjs').Model} model @param {import('./text.mjs').Translate} t @param {(steps: number) => void} move @param {() => void} onClose */
  constructor(model, t, move, onClose) {
    this.model = model
    this.image = h('img', { alt: '', draggable: 'false' })
    this.caption = h('div', { class: 'large-caption' })
    this.element = h('div', { class: 'large', hidden: true },
      h('button', { class: 'large-step', title: t('previous'), 'aria-label': t('previous'), onclick: () => move(-1) }, '‹'),
      h('figure', { ondblclick: onClose }, this.image, this.caption),
      h('button', { class: 'large-step', title: t('next'), 'aria-label': t('next'), onclick: () => move(1) }, '›'),
      h('button', { class: 'large-close', title: t('backToGrid'), 'aria-label': t('backToGrid'), onclick: onClose }, '×'))
    this.onSelection = () => this.isOpen && this.draw()
    model.addEventListener('selection', this.onSelection)
  }

  get isOpen() {
    return !this.element.hidden
  }

  open() {
    this.element.hidden = false
    this.element.closest('.editor')?.classList.add('is-large')
    this.draw()
  }

  close() {
    this.element.hidden = true
    this.element.closest('.editor')?.classList.remove('is-large')
    this.image.removeAttribute('src')
  }

  draw() {
    const { model } = this
    const picture = model.pictures[model.cursor]
    if (!picture) return this.close()
    const url = thumbnailUrl(model.id, model.cursor, 1536)
    if (this.image.src !== new URL(url, location.href).href) {
      this.image.style.backgroundImage = `url("${thumbnailUrl(model.id, model.cursor, 256)}")`
      this.image.width = picture.width
      this.image.height = picture.height
      this.image.src = url
    }
    this.image.alt = picture.name
    this.caption.textContent = `${picture.key} · ${picture.width} × ${picture.height} · ${model.shown.indexOf(model.cursor) + 1} / ${model.shown.length}`
  }

  dispose() {
    this.model.removeEventListener('selection', this.onSelection)
  }
}
