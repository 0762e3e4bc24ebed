// @ts-check
// Writes the chosen epoch into the graph: the node's own `chosen`, and every Save Epoch that takes the same run.

const SAVE = 'AthanorSaveEpoch', LOAD = 'AthanorLoadRun', RUN = 'athanor_run'

/**
 * @param {any} app ComfyUI's @param {any} node XY Plot Compare
 * @param {{run: string, own: boolean, epoch: number}} chosen `own`: of the run that is wired into the node
 * @returns {string[]} what it was written into
 */
export function writeChoice(app, node, { run, own, epoch }) {
  const text = String(epoch), written = []
  if (own && setWidget(node, 'chosen', text)) written.push('chosen_epoch')
  const source = sourceOf(node, 'run')
  for (const save of allNodes(app.rootGraph ?? app.graph)) {
    if (save.comfyClass !== SAVE) continue
    const from = sourceOf(save, 'run')
    if (!from || !((own && source && from.key === source.key) || runOf(from.node) === run)) continue
    const wired = sourceOf(save, 'epochs')
    if (wired ? wired.node === node && own : setWidget(save, 'epochs', text)) written.push(`${save.title ?? save.type} #${save.id}`)
  }
  node.graph?.change?.()
  app.canvas?.setDirty?.(true, true)
  app.extensionManager?.workflow?.activeWorkflow?.changeTracker?.captureCanvasState?.()
  return written
}

/** @param {any} node @param {string} name @param {string} value */
function setWidget(node, name, value) {
  const widget = node.widgets?.find((/** @type {any} */ each) => each.name === name)
  if (!widget) return false
  widget.value = value
  widget.callback?.(value)
  return true
}

/** The node and output that an input is fed by, behind reroutes and behind nodes that pass a run on. @param {any} node @param {string} name @returns {{node: any, key: string} | undefined} */
function sourceOf(node, name) {
  const seen = new Set()
  let input = node.inputs?.find((/** @type {any} */ each) => each.name === name)
  let graph = node.graph
  while (input?.link != null) {
    const link = graph?.getLink?.(input.link) ?? graph?.links?.get?.(input.link) ?? graph?.links?.[input.link]
    if (!link) return undefined
    const key = `${graph.id}:${link.origin_id}:${link.origin_slot}`
    const origin = graph.getNodeById?.(link.origin_id)
    if (!origin || seen.has(key)) return { node: origin, key }
    seen.add(key)
    const next = origin.type === 'Reroute' ? origin.inputs?.[0] : origin.inputs?.find((/** @type {any} */ each) => each.name === 'run' && each.type === origin.outputs?.[link.origin_slot]?.type)
    if (next?.link == null) return { node: origin, key }
    input = next
  }
  return undefined
}

/** Which run a node gives, as far as the page knows. @param {any} node @returns {string} */
function runOf(node) {
  if (node?.comfyClass === LOAD) return String(node.widgets?.find((/** @type {any} */ each) => each.name === 'run')?.value ?? '')
  return String(node?.properties?.[RUN] ?? '')
}

/** @param {any} graph @returns {any[]} */
function allNodes(graph) {
  return (graph?.nodes ?? []).flatMap((/** @type {any} */ node) => [node, ...(node.subgraph ? allNodes(node.subgraph) : [])])
}
