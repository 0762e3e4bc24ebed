// @ts-check
// The tags of what is selected, as chips that can be moved, renamed and removed by mouse and by keys.
import { categoryClass, h } from './dom.mjs'
import { filterTerm, matchKey, splitTags } from './tags.mjs'

export class Chips {
  /**
   * @param {import('./model.mjs').Model} model
   * @param {import('./text.mjs').Translate} t
   * @param {(term: string) => void} addToFilter
   */
  constructor(model, t, addToFilter) {
    this.model = model
    this.t = t
    this.addToFilter = addToFilter
    this.element = h('div', { class: 'chips', role: 'list', title: t('chipHint') })
    /** @type {Map<string, number>} tag key to score in percent, of the one picture */
    this.scores = new Map()
    this.element.addEventListener('keydown', (event) => this._onKey(event))
    this.element.addEventListener('dragover', (event) => this._onDragOver(event))
    this.element.addEventListener('drop', (event) => event.preventDefault())
    this.dragged = ''
  }

  draw() {
    const { model } = this
    const numbers = [...model.selection]
    const focused = /** @type {HTMLElement | null} */ (this.element.querySelector('.chip:focus'))?.dataset.key
    const counts = numbers.length === 1
      ? model.captions[numbers[0]].map((tag) => ({ tag, count: 1 }))
      : [...model.countsOf(numbers).values()].sort((one, other) => other.count - one.count)
    this.element.replaceChildren(...counts.map(({ tag, count }, i) => this._chip(tag, count, numbers.length, i)))
    this.element.classList.toggle('is-ordered', numbers.length === 1)
    if (!counts.length && numbers.length) this.element.append(h('span', { class: 'hint' }, this.t('noTags')))
    if (focused) this.focus(focused)
  }

  /** @param {string} [key] of the tag; the first one without */
  focus(key) {
    const chips = /** @type {HTMLElement[]} */ ([...this.element.querySelectorAll('.chip')])
    ;(chips.find((chip) => chip.dataset.key === key) ?? chips[0])?.focus()
  }

  /** @param {string} tag @param {number} count @param {number} of @param {number} place */
  _chip(tag, count, of, place) {
    const { model, t } = this
    const isEverywhere = count === of
    const score = of === 1 ? this.scores.get(matchKey(tag)) : undefined
    const remove = h('button', { class: 'chip-x', tabindex: '-1', 'aria-label': t('remove', { tag }), title: t('remove', { tag }), onclick: () => this.remove(tag) }, '×')
    const chip = h('span', {
      class: `chip ${categoryClass(model.categoryOf(tag))}${isEverywhere ? '' : ' is-partial'}`,
      role: 'listitem', tabindex: place ? '-1' : '0', draggable: of === 1 ? 'true' : 'false',
    }, h('span', { class: 'chip-text' }, tag),
    score !== undefined && h('span', { class: 'chip-score' }, `${score}`),
    !isEverywhere && h('button', { class: 'chip-count', tabindex: '-1', title: t('inAll'), onclick: () => this._addToAll(tag) }, `${count}/${of}`),
    remove)
    chip.dataset.key = matchKey(tag)
    chip.dataset.tag = tag
    chip.ondblclick = () => this._rename(chip, tag)
    chip.onclick = (event) => {
      if (event.ctrlKey || event.metaKey) this.addToFilter(filterTerm(tag))
      else if (!(event.target instanceof HTMLButtonElement)) chip.focus()
    }
    chip.ondragstart = (event) => {
      this.dragged = matchKey(tag)
      chip.classList.add('is-dragged')
      event.dataTransfer?.setData('text/plain', tag)
      if (event.dataTransfer) event.dataTransfer.effectAllowed = 'move'
    }
    chip.ondragend = (event) => (event.dataTransfer?.dropEffect === 'none' ? this._putBack() : this._dropped())
    return chip
  }

  /** Shows at once where the tag would go. @param {DragEvent} event */
  _onDragOver(event) {
    const dragged = /** @type {HTMLElement | null} */ (this.element.querySelector('.is-dragged'))
    if (!dragged) return
    event.preventDefault()
    const over = /** @type {HTMLElement} */ (event.target).closest('.chip')
    if (event.dataTransfer) event.dataTransfer.dropEffect = 'move'
    if (!over || over === dragged) return
    const box = over.getBoundingClientRect()
    over[event.clientX < box.left + box.width / 2 ? 'before' : 'after'](dragged)
  }

  /** After Escape, or a drop somewhere else. */
  _putBack() {
    this.dragged = ''
    this.draw()
  }

  _dropped() {
    this.dragged = ''
    const order = [...this.element.querySelectorAll('.chip')].map((chip) => /** @type {HTMLElement} */ (chip).dataset.tag ?? '')
    const all = order.map(matchKey).sort().join()
    const changed = this.model.change(this.model.selection, (tags) => (tags.map(matchKey).sort().join() === all ? order : tags))
    if (!changed) this.draw()
  }

  /** @param {string} tag */
  remove(tag) {
    const key = matchKey(tag)
    this.model.change(this.model.selection, (tags) => tags.filter((each) => matchKey(each) !== key))
  }

  /** @param {string} tag */
  _addToAll(tag) {
    const key = matchKey(tag)
    this.model.change(this.model.selection, (tags) => (tags.some((each) => matchKey(each) === key) ? tags : [...tags, tag]))
  }

  /** @param {HTMLElement} chip @param {string} tag */
  _rename(chip, tag) {
    const field = h('input', { class: 'chip-edit', value: tag, 'aria-label': this.t('rename', { tag }), size: String(Math.max(6, tag.length + 1)) })
    chip.replaceChildren(field)
    chip.draggable = false
    field.select()
    field.focus()
    let isDone = false
    const end = (/** @type {boolean} */ isWanted) => {
      if (isDone) return
      isDone = true
      const changed = isWanted && field.value.trim() !== tag ? replaceTag(this.model, this.model.selection, tag, field.value) : 0
      if (!changed) this.draw()
      this.focus(matchKey(isWanted ? splitTags(field.value)[0] ?? tag : tag))
    }
    field.onblur = () => end(true)
    field.onkeydown = (event) => {
      if (event.isComposing) return
      event.stopPropagation()
      if (event.key === 'Enter' || event.key === 'Escape') {
        event.preventDefault()
        end(event.key === 'Enter')
      }
    }
  }

  /** @param {KeyboardEvent} event */
  _onKey(event) {
    const chip = /** @type {HTMLElement | null} */ (/** @type {HTMLElement} */ (event.target).closest('.chip'))
    if (!chip || event.ctrlKey || event.metaKey) return
    const chips = /** @type {HTMLElement[]} */ ([...this.element.querySelectorAll('.chip')])
    const place = chips.indexOf(chip)
    const tag = chip.dataset.tag ?? ''
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key]
    if (step && event.altKey && this.model.selection.size === 1) {
      this.model.change(this.model.selection, (tags) => moved(tags, place, place + step))
    } else if (step) {
      chips[place + step]?.focus()
    } else if (event.key === 'Delete' || event.key === 'Backspace') {
      const next = chips[place + 1] ?? chips[place - 1]
      this.remove(tag)
      this.focus(next?.dataset.key)
    } else if (event.key === 'F2' || event.key === 'Enter') {
      this._rename(chip, tag)
    } else {
      return
    }
    event.preventDefault()
    event.stopPropagation()
  }
}

/**
 * One tag becomes another one, several, or none, in these pictures; at its place.
 * @param {import('./model.mjs').Model} model @param {Iterable<number>} numbers @param {string} old @param {string} text
 */
export function replaceTag(model, numbers, old, text) {
  const key = matchKey(old)
  const fresh = splitTags(text)
  const keys = new Set(fresh.map(matchKey))
  return model.change(numbers, (tags) => {
    const place = tags.findIndex((tag) => matchKey(tag) === key)
    if (place < 0) return tags
    const kept = (/** @type {string} */ tag) => matchKey(tag) !== key && !keys.has(matchKey(tag))
    return [...tags.slice(0, place).filter(kept), ...fresh, ...tags.slice(place + 1).filter(kept)]
  })
}

/** @param {string[]} tags @param {number} from @param {number} to */
function moved(tags, from, to) {
  if (to < 0 || to >= tags.length) return tags
  const order = tags.slice()
  order.splice(to, 0, ...order.splice(from, 1))
  return order
}
