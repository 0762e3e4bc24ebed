// @ts-check
// Runs the workflow up to one node, as the button on a selected node does.
import { api } from '../../../scripts/api.js'

/**
 * @param {any} app ComfyUI's
 * @param {string} target execution id of the node
 * @param {(title: string) => void} onNode called with the title of each node that runs
 * @param {import('./text.mjs').Translate} t
 * @returns {Promise<string>} why it did not work; empty if it did
 */
export function runUpTo(app, target, onNode, t) {
  return new Promise((resolve) => {
    let hasArrived = false
    const events = {
      executing: (/** @type {any} */ id) => {
        const node = id == null ? null : app.graph.getNodeById(Number(String(id).split(':')[0]))
        if (node) onNode(node.title)
      },
      executed: (/** @type {any} */ detail) => {
        if (String(detail.display_node ?? detail.node) === target || String(detail.node) === target) hasArrived = true
      },
      execution_success: () => end(hasArrived ? '' : t('noDataset')),
      execution_error: (/** @type {any} */ detail) => end(`${detail.node_type}: ${detail.exception_message}`),
      execution_interrupted: () => end(t('cancelled')),
    }
    const listeners = Object.entries(events).map(([name, handle]) => /** @type {const} */ ([name, (/** @type {any} */ event) => handle(event.detail)]))
    const end = (/** @type {string} */ problem) => {
      for (const [name, listener] of listeners) api.removeEventListener(name, listener)
      resolve(problem)
    }
    for (const [name, listener] of listeners) api.addEventListener(name, listener)
    Promise.resolve(app.queuePrompt(0, 1, { queueNodeIds: [target] })).then(
      () => {
        const errors = Object.values(app.lastNodeErrors ?? {})
        if (errors.length) end(errors.map((/** @type {any} */ node) => `${node.class_type}: ${node.errors.map((/** @type {any} */ each) => each.details || each.message).join('; ')}`).join('\n'))
        else if (app.lastExecutionError) end(String(app.lastExecutionError.exception_message))
      },
      (error) => end(String(error)),
    )
  })
}
