// @ts-check
import { app } from '../../scripts/app.js'
import { NODE, prepareNode } from './editor/node.mjs'
import { preparePanel, TRAIN_NODES } from './panel/node.mjs'
import { COMPARE_NODE, prepareViewer } from './viewer/node.mjs'

app.registerExtension({
  name: 'Athanor',
  /** @param {any} node */
  nodeCreated(node) {
    if (node.comfyClass === NODE) prepareNode(app, node)
    if (TRAIN_NODES.includes(node.comfyClass)) preparePanel(app, node)
    if (node.comfyClass === COMPARE_NODE) prepareViewer(app, node)
  },
})
