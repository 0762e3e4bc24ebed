// @ts-check

/** How the server calls a node: its id, behind those of the subgraphs that it lies in. @param {any} app ComfyUI's @param {any} node @returns {string} */
export function executionId(app, node) {
  return pathTo(app.rootGraph ?? app.graph, node) ?? String(node.id)
}

/** @param {any} graph @param {any} node @returns {string | undefined} */
function pathTo(graph, node) {
  for (const each of graph?.nodes ?? []) {
    if (each === node) return String(each.id)
    const inside = each.subgraph && pathTo(each.subgraph, node)
    if (inside) return `${each.id}:${inside}`
  }
  return undefined
}

/** On the old canvas the graph would not feel the wheel and the middle button over an element; Nodes 2.0 sees to it itself. @param {any} app @param {HTMLElement} element @param {AbortSignal} signal */
export function passOn(app, element, signal) {
  const isCanvas = () => !(/** @type {any} */ (window).LiteGraph?.vueNodesMode)
  const pass = (/** @type {string} */ type, /** @type {string} */ method, /** @type {(event: any) => boolean} */ wanted) =>
    element.addEventListener(type, (event) => {
      if (!isCanvas() || event.defaultPrevented || !wanted(event)) return
      event.preventDefault()
      app.canvas[method](event)
    }, { signal })
  pass('wheel', 'processMouseWheel', () => true)
  pass('pointerdown', 'processMouseDown', (event) => event.button === 1)
  pass('pointermove', 'processMouseMove', (event) => (event.buttons & 4) === 4)
  pass('pointerup', 'processMouseUp', (event) => event.button === 1)
}
