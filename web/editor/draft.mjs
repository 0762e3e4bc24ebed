// @ts-check
// Edits that are not saved in the node yet, kept in the browser: a reload or a closed page loses none of them.

const PREFIX = 'athanor.editor.draft '
const WAIT_MS = 500
const MAX_KEPT = 20

/** The draft of one node. Where the browser keeps nothing (private windows, full storage) there is none. */
export class Draft {
  /** @param {string} node what tells the node from all others, also after a reload */
  constructor(node) {
    this.key = PREFIX + node
  }

  /** @returns {string} the hand edits; empty if there are none */
  read() {
    try {
      const kept = JSON.parse(localStorage.getItem(this.key) ?? 'null')
      return typeof kept?.edits === 'string' ? kept.edits : ''
    } catch {
      return ''
    }
  }

  /** @param {string} edits */
  write(edits) {
    const text = JSON.stringify({ edits, time: Date.now() })
    try {
      forgetOld(this.key)
      localStorage.setItem(this.key, text)
    } catch {
      this.clear() // half of the edits of an earlier moment would be worse than none
    }
  }

  clear() {
    try {
      localStorage.removeItem(this.key)
    } catch { /* nothing is kept there */ }
  }

  /** Keeps the draft as the model is edited, and none while all is saved. @param {import('./model.mjs').Model} model @returns {() => void} ends it */
  follow(model) {
    let timer = 0
    const keep = () => {
      clearTimeout(timer)
      timer = 0
      if (model.isDirty) this.write(model.editsText())
      else this.clear()
    }
    const later = () => {
      if (!model.isDirty) keep()
      else timer ||= window.setTimeout(keep, WAIT_MS)
    }
    const atOnce = () => timer && keep()
    model.addEventListener('captions', later)
    window.addEventListener('pagehide', atOnce)
    document.addEventListener('visibilitychange', atOnce)
    return () => {
      clearTimeout(timer)
      model.removeEventListener('captions', later)
      window.removeEventListener('pagehide', atOnce)
      document.removeEventListener('visibilitychange', atOnce)
    }
  }
}

/** The oldest drafts of other nodes go. @param {string} own */
function forgetOld(own) {
  const others = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX) && key !== own)
  if (others.length < MAX_KEPT) return
  const timeOf = (/** @type {string} */ key) => {
    try {
      return JSON.parse(localStorage.getItem(key) ?? '{}').time ?? 0
    } catch {
      return 0
    }
  }
  others.sort((one, other) => timeOf(other) - timeOf(one))
  for (const key of others.slice(MAX_KEPT - 1)) localStorage.removeItem(key)
}
