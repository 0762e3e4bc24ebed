// @ts-check
import { app } from '../../scripts/app.js'
import { NODE, prepareNode } from './editor/node.mjs'

app.registerExtension({
  name: 'Athanor',
  /** @param {any} node */
  nodeCreated(node) {
    if (node.comfyClass === NODE) prepareNode(app, node)
  },
})
