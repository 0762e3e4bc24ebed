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
