// @ts-check
// What each key does, and the page that tells it.
import { h } from './dom.mjs'

/** @type {[string, import('./text.mjs').TextKey][]} */
const TABLE = [
  ['← ↑ → ↓', 'keysMove'], ['Shift + ← ↑ → ↓', 'keysRange'], ['Space', 'keysToggle'], ['Ctrl + A', 'keysAll'],
  ['Home  End  PgUp  PgDn', 'keysEnds'], ['Enter', 'keysLarge'], ['U', 'keysUntagged'], ['F   /', 'keysFilter'],
  ['A', 'keysAdd'], ['R', 'keysReplace'], ['T', 'keysChips'], ['C', 'keysCloud'], ['Ctrl + Z   Ctrl + Y', 'keysUndo'],
  ['Ctrl + C   Ctrl + V', 'keysCopy'], ['Ctrl + S', 'keysSave'], ['−   +', 'keysSize'], ['Esc', 'keysEscape'],
]

/** @param {import('./text.mjs').Translate} t @param {() => void} close */
export function helpPage(t, close) {
  return h('div', { class: 'cover', hidden: true, role: 'dialog', 'aria-label': t('keysTitle'), onclick: close },
    h('div', { class: 'box help' }, h('h2', {}, t('keysTitle')),
      h('dl', {}, ...TABLE.flatMap(([keys, what]) => [
        h('dt', {}, ...keys.split('   ').map((key) => h('kbd', {}, key))), h('dd', {}, t(what)),
      ]))))
}

/**
 * @typedef {object} Commands what the keys call
 * @property {(steps: number, isRange: boolean) => void} move
 * @property {(rows: number, isRange: boolean) => void} moveRows
 * @property {(isRange: boolean) => void} first
 * @property {(isRange: boolean) => void} last
 * @property {() => number} rowsInView
 * @property {() => void} toggle
 * @property {() => void} all
 * @property {() => void} large
 * @property {() => void} untagged
 * @property {() => void} filter
 * @property {() => void} add
 * @property {() => void} replace
 * @property {() => void} chips
 * @property {() => void} cloud
 * @property {() => void} undo
 * @property {() => void} redo
 * @property {() => void} copy
 * @property {() => void} paste
 * @property {() => void} save
 * @property {(step: number) => void} size
 * @property {() => void} help
 * @property {() => void} back
 */

/** Does what `event` asks for. @param {KeyboardEvent} event @param {Commands} commands @returns {boolean} whether it was a key of the editor */
export function onKey(event, commands) {
  if (event.isComposing || event.altKey) return false
  const target = /** @type {HTMLElement} */ (event.composedPath()[0])
  const isTyping = target instanceof HTMLInputElement && target.type !== 'range'
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key
  if (event.ctrlKey || event.metaKey) return withControl(key, event.shiftKey, isTyping, commands)
  if (key === 'Escape') {
    commands.back()
    return true
  }
  if (isTyping || (target instanceof HTMLButtonElement && (key === 'Enter' || key === ' '))) return false
  const range = event.shiftKey
  /** @type {Record<string, () => void>} */
  const table = {
    ArrowLeft: () => commands.move(-1, range), ArrowRight: () => commands.move(1, range),
    ArrowUp: () => commands.moveRows(-1, range), ArrowDown: () => commands.moveRows(1, range),
    PageUp: () => commands.moveRows(-commands.rowsInView(), range), PageDown: () => commands.moveRows(commands.rowsInView(), range),
    Home: () => commands.first(range), End: () => commands.last(range),
    ' ': commands.toggle, Enter: commands.large, u: commands.untagged, f: commands.filter, '/': commands.filter, a: commands.add,
    r: commands.replace, t: commands.chips, c: commands.cloud, '-': () => commands.size(-30), '+': () => commands.size(30), '=': () => commands.size(30), '?': commands.help,
  }
  const command = table[key]
  command?.()
  return Boolean(command)
}

/** @param {string} key @param {boolean} hasShift @param {boolean} isTyping @param {Commands} commands */
function withControl(key, hasShift, isTyping, commands) {
  if (key === 's') commands.save()
  else if (key === 'f') commands.filter()
  else if (isTyping) return false // the field's own undo, copy and select all
  else if (key === 'z') hasShift ? commands.redo() : commands.undo()
  else if (key === 'y') commands.redo()
  else if (key === 'a') commands.all()
  else if (key === 'c') commands.copy()
  else if (key === 'v') commands.paste()
  else return false
  return true
}
