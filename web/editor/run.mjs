// @ts-check
// Runs the workflow up to one node, as the button on a selected node does.
import { api } from '../../../scripts/api.js'

const REFUSED_AFTER_MS = 1000

/** What waits or runs on the server. @returns {Promise<{running: string[], pending: string[]}>} ids of prompts */
async function queued() {
  try {
    const answer = await (await api.fetchApi('/queue')).json()
    const ids = (/** @type {any[]} */ entries) => (entries ?? []).map((entry) => String(entry[1]))
    return { running: ids(answer.queue_running), pending: ids(answer.queue_pending) }
  } catch {
    return { running: [], pending: [] }
  }
}

/**
 * Other runs may be before it in the queue, such as a long training: what happens to them is not taken for its own, and `cancel` leaves them alone.
 * @param {any} app ComfyUI's
 * @param {string} target execution id of the node
 * @param {{onNode: (title: string) => void, onWait: () => void}} tell the title of each node that runs; that others run first
 * @param {import('./text.mjs').Translate} t
 * @returns {{ended: Promise<string>, cancel: () => void}} why it did not work; empty if it did
 */
export function runUpTo(app, target, { onNode, onWait }, t) {
  let cancel = () => {}
  const ended = (async () => {
    const { running, pending } = await queued()
    const others = new Set([...running, ...pending])
    return new Promise((/** @type {(problem: string) => void} */ resolve) => {
      let hasArrived = false
      let isTaken = false
      let started = ''
      const isOwn = (/** @type {any} */ detail) => !others.has(String(detail?.prompt_id))
      const events = {
        execution_start: (/** @type {any} */ detail) => { started = String(detail?.prompt_id ?? '') },
        executing: (/** @type {any} */ id) => {
          const node = id == null || !started ? null : app.graph.getNodeById(Number(String(id).split(':')[0]))
          if (node) onNode(node.title)
        },
        executed: (/** @type {any} */ detail) => {
          if (String(detail.display_node ?? detail.node) === target || String(detail.node) === target) hasArrived = true
        },
        execution_success: () => end(hasArrived ? '' : t('noDataset')),
        execution_error: (/** @type {any} */ detail) => end(`${detail.node_type}: ${detail.exception_message}`),
        execution_interrupted: () => end(t('cancelled')),
        promptQueued: () => { isTaken = true },
      }
      const listeners = Object.entries(events).map(([name, handle]) => /** @type {const} */ ([name, (/** @type {any} */ event) => {
        if (name === 'executing' || isOwn(event.detail)) handle(event.detail)
      }]))
      const end = (/** @type {string} */ problem) => {
        for (const [name, listener] of listeners) api.removeEventListener(name, listener)
        resolve(problem)
      }
      cancel = async () => {
        if (started) return api.interrupt(started)
        for (const id of (await queued()).pending) if (!others.has(id)) await api.deleteItem('queue', id)
        end(t('cancelled'))
      }
      for (const [name, listener] of listeners) api.addEventListener(name, listener)
      if (others.size) onWait()
      Promise.resolve(app.queuePrompt(0, 1, { queueNodeIds: [target] })).then(
        () => {
          const errors = Object.values(app.lastNodeErrors ?? {})
          if (errors.length) end(errors.map((/** @type {any} */ node) => `${node.class_type}: ${node.errors.map((/** @type {any} */ each) => each.details || each.message).join('; ')}`).join('\n'))
          else if (app.lastExecutionError) end(String(app.lastExecutionError.exception_message))
          else window.setTimeout(() => isTaken || started || end(t('refused')), REFUSED_AFTER_MS)
        },
        (error) => end(String(error)),
      )
    })
  })()
  return { ended, cancel: () => cancel() }
}
