// @ts-check
// The button on the node, and what the node keeps for the editor.
import { executionId } from '../graph.mjs'
import { texts } from './text.mjs'
import { openEditor } from './window.mjs'

export const NODE = 'AthanorEditTags'
const EDITS = 'hand_edits'
const LISTING = 'athanor_listing'
const MARK = 'athanor_editor'
/** LiteGraph's modes of nodes that are muted or bypassed. */
const OFF = [2, 4]

/** Prepares a node that was just made. @param {any} app ComfyUI's @param {any} node */
export function prepareNode(app, node) {
  const t = texts(app.extensionManager?.setting?.get('Comfy.Locale') ?? navigator.language)
  const widget = (/** @type {string} */ name) => node.widgets?.find((/** @type {any} */ each) => each.name === name)
  const button = node.addWidget('button', 'edit_tags', null, () => openEditor(app, face(app, node, widget), t), { serialize: false })
  button.label = t('button')
  button.serialize = false

  const onExecuted = node.onExecuted
  node.onExecuted = function (/** @type {any} */ output) {
    onExecuted?.apply(this, arguments)
    const listing = output?.[LISTING]?.[0]
    if (!listing) return
    this.properties[LISTING] = listing
    markOf(this)
  }
}

/** What tells the node from those of other workflows; kept with it, since workflows that were never saved have no name. @param {any} node @returns {string} */
function markOf(node) {
  return (node.properties[MARK] ??= Date.now().toString(36) + Math.random().toString(36).slice(2))
}

/** @param {any} app @param {any} node @param {(name: string) => any} widget @returns {import('./window.mjs').NodeFace} */
function face(app, node, widget) {
  return {
    listing: () => node.properties[LISTING] ?? '',
    edits: () => widget(EDITS)?.value ?? '',
    setEdits: (text) => {
      const edits = widget(EDITS)
      edits.value = text
      edits.callback?.(text)
      node.graph?.change?.()
      app.extensionManager?.workflow?.activeWorkflow?.changeTracker?.captureCanvasState?.()
    },
    isOff: () => OFF.includes(node.mode),
    settings: () => {
      const own = (/** @type {string} */ name, /** @type {string} */ otherwise) =>
        node.inputs?.some((/** @type {any} */ input) => input.name === name && input.link != null) ? undefined : widget(name)?.value ?? otherwise
      return { rules: own('rules', ''), filter: own('filter', ''), lexicon: own('lexicon', 'none') }
    },
    identity: () => `${markOf(node)} ${executionId(app, node)}`,
    executionId: () => executionId(app, node),
  }
}
