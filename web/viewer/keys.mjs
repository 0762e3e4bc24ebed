// @ts-check
// What each key does, and the page that tells it.
import { h } from '../editor/dom.mjs'

/** @type {[string, import('./text.mjs').TextKey][]} */
const TABLE = [
  ['← ↑ → ↓', 'keysWalk'], ['Shift + ← ↑ → ↓', 'keysBoth'], ['PgUp   PgDn', 'keysPages'], ['Home   End', 'keysEnds'], ['Enter', 'keysOpen'],
  ['1   2', 'keysPin'], ['C   S   F   D', 'keysCompare'], ['Space', 'keysFlip'], [',   .', 'keysSlide'], ['X   Tab', 'keysSwap'], ['U', 'keysUse'],
  ['−   +   0', 'keysZoom'], ['←   →   ↓   ⌫   N', 'keysBlind'], ['G   I   V   W', 'keysRest'], ['Esc', 'keysEscape'],
]

/** @param {import('./text.mjs').Translate} t @param {() => void} close */
export function helpPage(t, close) {
  return h('div', { class: 'cover', hidden: true, role: 'dialog', 'aria-label': t('keysTitle'), onclick: close },
    h('div', { class: 'box' }, h('h3', {}, t('keysTitle')),
      h('dl', { class: 'keys' }, ...TABLE.flatMap(([keys, what]) => [h('dt', {}, ...keys.split('   ').map((key) => h('kbd', {}, key))), h('dd', {}, t(what))]))))
}

/**
 * @typedef {object} Commands
 * @property {() => void} use
 * @property {() => void} full
 * @property {() => void} help
 * @property {() => void} back
 * @property {(factor: number) => void} zoom by a factor; 0 fits
 * @property {() => void} reveal
 */

/** Does what `event` asks for. @param {KeyboardEvent} event @param {import('./model.mjs').Model} model @param {import('./blind.mjs').Blind} blind @param {Commands} commands @returns {boolean} whether it was a key of the viewer */
export function onKey(event, model, blind, commands) {
  if (event.isComposing || event.altKey || event.ctrlKey || event.metaKey || !model.sheet) return false
  const target = /** @type {HTMLElement} */ (event.composedPath()[0])
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key
  if (target instanceof HTMLSelectElement && key !== 'Escape') return false
  if ((target instanceof HTMLButtonElement || target instanceof HTMLAnchorElement) && (key === 'Enter' || key === ' ')) return false
  const { view } = model, isPair = view.mode === 'compare'
  if (view.mode === 'blind') {
    /** @type {Record<string, () => void>} */
    const votes = { ArrowLeft: () => blind.vote('first'), ArrowRight: () => blind.vote('second'), ArrowDown: () => blind.vote('tie'), Backspace: () => blind.vote('back'), n: () => blind.next() }
    if (votes[key]) {
      votes[key]()
      return true
    }
  }
  const walk = (/** @type {'x' | 'y' | 'z'} */ axis, /** @type {number} */ steps) => {
    model.walk(axis, steps, event.shiftKey)
    commands.reveal()
  }
  /** @type {Record<string, () => void>} */
  const table = {
    ArrowLeft: () => walk('x', -1), ArrowRight: () => walk('x', 1), ArrowUp: () => walk('y', -1), ArrowDown: () => walk('y', 1),
    PageUp: () => walk('z', -1), PageDown: () => walk('z', 1), Home: () => walk('x', -Infinity), End: () => walk('x', Infinity),
    Enter: () => model.change({ mode: view.mode === 'grid' ? 'large' : 'grid' }),
    1: () => model.pin('a'), 2: () => model.pin('b'),
    c: () => model.compare(), g: () => model.change({ mode: 'grid' }), v: () => model.change({ mode: 'blind' }),
    i: () => model.change({ facts: !view.facts }), u: commands.use, w: commands.full, '?': commands.help, Escape: commands.back,
    '+': () => commands.zoom(1.25), '=': () => commands.zoom(1.25), '-': () => commands.zoom(0.8), 0: () => commands.zoom(0),
  }
  if (isPair) {
    Object.assign(table, {
      s: () => model.change({ way: 'slider' }), f: () => model.change({ way: 'flip' }), d: () => model.change({ way: 'difference' }), x: () => model.swap(),
      ' ': () => model.change({ way: 'flip', flipped: view.way === 'flip' ? !view.flipped : view.flipped }),
      ',': () => model.change({ slider: Math.max(0, view.slider - 0.02) }), '.': () => model.change({ slider: Math.min(1, view.slider + 0.02) }),
    })
    if (target instanceof HTMLElement && target.classList.contains('viewer')) {
      table.Tab = () => model.change({ walks: view.walks === 'a' ? 'b' : 'a', at: (view.walks === 'a' ? view.b : view.a) ?? view.at })
    }
  }
  table[key]?.()
  return Boolean(table[key])
}
