// @ts-check
// Opens the editor for a node: from the pictures of its last run, or after running the workflow up to it.
import { fetchListing, RefusedError } from '../api.js'
import { Editor } from './dialog.mjs'
import { Draft } from './draft.mjs'
import { h } from './dom.mjs'
import { Model } from './model.mjs'
import { runUpTo } from './run.mjs'

const STYLE = new URL('./editor.css', import.meta.url).href

/**
 * @typedef {object} NodeFace what the editor wants of its node
 * @property {() => string} listing of the last run; empty before
 * @property {() => string} edits
 * @property {(text: string) => void} setEdits
 * @property {() => Record<string, string | undefined>} settings rules, filter and lexicon; undefined where a wire brings it
 * @property {() => string} executionId
 * @property {() => boolean} isOff whether it is muted or bypassed
 * @property {() => string} identity tells the node from those of other workflows, also after a reload
 */

/** @param {any} app ComfyUI's @param {NodeFace} node @param {import('./text.mjs').Translate} t */
export function openEditor(app, node, t) {
  const content = h('div', { class: 'window' })
  const host = h('div', { tabindex: '-1' })
  // The page's undo looks at window level, before anything here can stop it, and spares text fields; this is how it knows them.
  Object.assign(host, { type: 'textarea' })
  host.attachShadow({ mode: 'open' }).append(h('link', { rel: 'stylesheet', href: STYLE }), content)
  const dialog = h('dialog', { class: 'athanor-editor', style: 'padding: 0; border: 0; background: none; width: 100vw; height: 100vh; max-width: none; max-height: none' }, host)
  /** @type {Editor | undefined} */
  let editor
  /** @type {() => void} */
  let endDraft = () => {}
  const leave = () => dialog.close()
  dialog.addEventListener('close', () => {
    endDraft()
    editor?.dispose()
    dialog.remove()
  })
  dialog.addEventListener('cancel', (event) => event.preventDefault())
  for (const type of ['keydown', 'keyup', 'paste', 'copy', 'cut', 'wheel', 'pointerdown', 'contextmenu']) dialog.addEventListener(type, (event) => event.stopPropagation())
  document.body.append(dialog)
  dialog.showModal()

  const message = (/** @type {string} */ text, /** @type {HTMLElement[]} */ ...buttons) => {
    const box = h('div', { class: 'box message' }, h('h2', {}, t('title')), h('p', {}, text), h('div', { class: 'row' }, h('span', { class: 'grow' }), ...buttons))
    box.onkeydown = (event) => event.key === 'Escape' && leave()
    content.replaceChildren(box)
    buttons.at(-1)?.focus()
  }
  const offer = (/** @type {string} */ text) => message(text, h('button', { class: 'quiet', onclick: leave }, t('close')), h('button', { class: 'primary', onclick: run }, t('run')))
  const run = async () => {
    if (node.isOff()) return offer(t('isOff'))
    const say = (/** @type {string} */ text) => {
      const shown = content.querySelector('p')
      if (shown) shown.textContent = text
    }
    const { ended, cancel } = runUpTo(app, node.executionId(), { onNode: (title) => say(t('runningNode', { node: title })), onWait: () => say(t('waiting')) }, t)
    message(t('running'), h('button', { class: 'quiet', onclick: cancel }, t('cancel')))
    const problem = await ended
    if (!dialog.isConnected) return
    if (problem) offer(problem)
    else await open()
  }
  const open = async () => {
    if (!node.listing()) return offer(t('neverRun'))
    try {
      const listing = await fetchListing(node.listing(), node.edits())
      const settings = node.settings()
      endDraft()
      editor?.dispose()
      const model = new Model(node.listing(), listing, node.edits())
      const draft = new Draft(node.identity())
      const numRestored = restored(model, draft.read())
      endDraft = draft.follow(model)
      if (!numRestored) draft.clear()
      editor = new Editor(model, t, {
        save: node.setEdits,
        leave,
        discard: () => {
          endDraft()
          draft.clear()
          leave()
        },
        numRestored,
        runAgain: () => {
          node.setEdits(model.editsText())
          model.markSaved()
          run()
        },
        isStale: /** @type {const} */ (['rules', 'filter', 'lexicon']).some((name) => settings[name] !== undefined && settings[name] !== listing[name]),
      })
      content.replaceChildren(editor.element)
      editor.grid.element.focus()
    } catch (error) {
      offer(error instanceof RefusedError ? error.message : String(error))
    }
  }
  open()
}

/** Takes a draft up, if it can be read. @param {Model} model @param {string} edits @returns {number} of pictures */
function restored(model, edits) {
  try {
    return edits ? model.restore(edits) : 0
  } catch {
    return 0
  }
}
