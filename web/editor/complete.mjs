// @ts-check
// Suggestions under a text field: tags of the dataset, and of the lexicon.
import { fetchTags } from '../api.js'
import { categoryClass, debounced, h, short } from './dom.mjs'
import { matchKey } from './tags.mjs'

const MAX_SHOWN = 12
const MAX_OWN = 5
const WAIT_MS = 90

/**
 * @typedef {object} Suggestion
 * @property {string} tag
 * @property {number} category
 * @property {number} count
 * @property {string} alias
 * @property {boolean} isOwn the dataset has it
 */

/** @typedef {{start: number, end: number, text: string}} Part of the field's text that is completed */

/** The tag around the caret, between commas. @param {string} value @param {number} caret @returns {Part} */
export function tagAtCaret(value, caret) {
  const start = Math.max(value.lastIndexOf(',', caret - 1), value.lastIndexOf('，', caret - 1)) + 1
  return { start, end: caret, text: value.slice(start, caret).trim() }
}

/** Tags of the dataset with `text` in them: those that begin with it first, then by count. @param {import('./model.mjs').Model} model @param {string} text @returns {Suggestion[]} */
export function ownSuggestions(model, text) {
  const wanted = matchKey(text)
  /** @type {[number, Suggestion][]} */
  const found = []
  for (const [key, { tag, count }] of model.counts()) {
    const at = key.indexOf(wanted)
    if (wanted && at >= 0) found.push([at === 0 ? 0 : key[at - 1] === ' ' ? 1 : 2, { tag, category: model.categoryOf(tag), count, alias: '', isOwn: true }])
  }
  return found.sort(([rank, one], [other, two]) => rank - other || two.count - one.count).map(([, suggestion]) => suggestion)
}

/**
 * @param {HTMLInputElement} input
 * @param {object} options
 * @param {import('./model.mjs').Model} options.model
 * @param {boolean} options.withLexicon
 * @param {(value: string, caret: number) => Part | null} options.part
 * @param {(tag: string) => string} options.inserted what stands for the tag in the field
 * @param {() => void} options.onEnter Enter with no suggestion chosen
 * @returns {HTMLElement} the field with its list
 */
export function withSuggestions(input, { model, withLexicon, part, inserted, onEnter }) {
  const list = h('ul', { class: 'suggestions', role: 'listbox', hidden: true })
  const box = h('div', { class: 'complete' }, input, list)
  /** @type {Suggestion[]} */
  let suggestions = []
  let chosen = -1
  let asked = 0

  input.setAttribute('autocomplete', 'off')
  input.setAttribute('spellcheck', 'false')
  input.setAttribute('role', 'combobox')
  input.setAttribute('aria-expanded', 'false')

  const current = () => part(input.value, input.selectionStart ?? input.value.length)
  const close = () => {
    asked++
    suggestions = []
    chosen = -1
    list.hidden = true
    input.setAttribute('aria-expanded', 'false')
  }
  const draw = () => {
    list.hidden = !suggestions.length
    input.setAttribute('aria-expanded', String(!list.hidden))
    list.replaceChildren(...suggestions.map(({ tag, category, count, alias, isOwn }, i) => h('li', {
      class: `${categoryClass(category)}${i === chosen ? ' is-chosen' : ''}`, role: 'option', 'aria-selected': String(i === chosen),
      onmousedown: (/** @type {Event} */ event) => { event.preventDefault(); take(i) },
    }, alias && h('span', { class: 'alias' }, `${alias} → `), h('span', { class: 'tag' }, tag), h('span', { class: isOwn ? 'count own' : 'count' }, count ? short(count) : ''))))
    list.children[chosen]?.scrollIntoView({ block: 'nearest' })
  }
  const take = (/** @type {number} */ i) => {
    const piece = current()
    if (!piece) return
    const before = input.value.slice(0, piece.start)
    const text = `${before && !/[\s:]$/.test(before) ? `${before} ` : before}${inserted(suggestions[i].tag)}`
    if (!suggestions[i].isOwn) model.categories.set(matchKey(suggestions[i].tag), suggestions[i].category)
    input.value = text + input.value.slice(piece.end)
    input.setSelectionRange(text.length, text.length)
    close()
    input.dispatchEvent(new Event('input', { bubbles: true }))
    close()
  }
  const ask = debounced(WAIT_MS, async () => {
    const piece = current()
    const ticket = ++asked
    if (!piece?.text) return
    const found = await fetchTags(piece.text, model.listing.lexicon).catch(() => [])
    if (ticket !== asked) return
    const own = new Set(suggestions.map(({ tag }) => matchKey(tag)))
    const more = found.filter(([tag]) => !own.has(matchKey(tag))).map(([tag, category, count, alias]) => ({ tag, category, count, alias, isOwn: false }))
    suggestions = [...suggestions, ...more].slice(0, MAX_SHOWN)
    draw()
  })
  const onInput = () => {
    const piece = current()
    asked++
    chosen = -1
    suggestions = piece?.text ? ownSuggestions(model, piece.text).slice(0, withLexicon ? MAX_OWN : MAX_SHOWN) : []
    draw()
    if (withLexicon && piece?.text) ask()
  }
  input.addEventListener('input', onInput)
  input.addEventListener('blur', close)
  input.addEventListener('keydown', (event) => {
    if (event.isComposing) return
    if ((event.key === 'ArrowDown' || event.key === 'ArrowUp') && suggestions.length) {
      const step = event.key === 'ArrowDown' ? 1 : -1
      chosen = chosen < 0 ? (step > 0 ? 0 : suggestions.length - 1) : (chosen + step + suggestions.length) % suggestions.length
      draw()
    } else if ((event.key === 'Enter' || event.key === 'Tab') && suggestions.length && (chosen >= 0 || event.key === 'Tab') && !event.shiftKey) {
      take(Math.max(0, chosen))
    } else if (event.key === 'Enter') {
      close()
      onEnter()
    } else if (event.key === 'Escape' && suggestions.length) {
      close()
    } else {
      return
    }
    event.preventDefault()
    event.stopPropagation()
  })
  return box
}
