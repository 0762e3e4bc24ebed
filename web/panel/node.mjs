// @ts-check
// The panel on a train node: which run it shows, when it asks, and how it lies in both renderers.
import { fetchEvents, fetchRun, onRunBegun, RefusedError, sendCommand } from '../api.js'
import { executionId, passOn } from '../graph.mjs'
import { Panel } from './panel.mjs'
import { Story } from './story.mjs'
import { texts } from './text.mjs'

export const TRAIN_NODES = ['AthanorTrainLora', 'AthanorTrainEmbedding', 'AthanorTrainCheckpoint']
const RUN = 'athanor_run'
const POLL_MS = 1000
const BEGIN_MS = 60_000
const MIN_WIDTH_PX = 280

/** Puts the panel on a node that was just made. @param {any} app ComfyUI's @param {any} node */
export function preparePanel(app, node) {
  const t = texts(app.extensionManager?.setting?.get('Comfy.Locale') ?? navigator.language)
  const watch = new Watch(app, node, () => {
    panel.show(watch.story)
    fitNode()
  })
  const panel = new Panel(t, (command) => watch.tell(command))
  const widget = node.addDOMWidget('training', 'ATHANOR_PANEL', panel.element, { serialize: false, hideOnZoom: false, getValue: () => '', setValue: () => {} })
  widget.serialize = false
  widget.computeLayoutSize = () => ({ minHeight: panel.height, minWidth: MIN_WIDTH_PX })
  let height = panel.height
  const fitNode = () => {
    if (panel.height === height) return
    const more = panel.height - height
    height = panel.height
    node.setSize([Math.max(node.size[0], MIN_WIDTH_PX + 60), Math.max(node.computeSize()[1], node.size[1] + (more < 0 ? more : 0))])
    node.graph?.setDirtyCanvas?.(true, true)
  }
  // The panel shows the sample pictures and the curve, so the node does not show them again below it.
  node.hideOutputImages = true
  node.onDrawBackground = () => {}

  const cleanup = new AbortController()
  passOn(app, panel.element, cleanup.signal)
  document.addEventListener('visibilitychange', () => watch.look(), { signal: cleanup.signal })
  const theme = new MutationObserver(() => panel.redraw())
  for (const element of [document.documentElement, document.body]) theme.observe(element, { attributes: true, attributeFilter: ['class', 'style'] })
  const onConfigure = node.onConfigure
  node.onConfigure = function () {
    onConfigure?.apply(this, arguments)
    watch.find()
  }
  const onRemoved = node.onRemoved
  node.onRemoved = function () {
    onRemoved?.apply(this, arguments)
    cleanup.abort()
    theme.disconnect()
    watch.dispose()
    panel.dispose()
  }
}

/** Looks at the run of one node while it goes on. */
class Watch {
  /** @param {any} app @param {any} node @param {() => void} onChange */
  constructor(app, node, onChange) {
    this.app = app
    this.node = node
    this.onChange = onChange
    /** @type {Story | undefined} */
    this.story = undefined
    this.timer = 0
    this.beginsUntil = 0
    this.isLooking = this.isDisposed = false
    this.endListening = onRunBegun((begun) => this._begin(begun))
  }

  /** What the node is called in its widget; empty where that comes over a wire. */
  get name() {
    const isLinked = this.node.inputs?.some((/** @type {any} */ input) => input.name === 'name' && input.link != null)
    return isLinked ? '' : String(this.node.widgets?.find((/** @type {any} */ widget) => widget.name === 'name')?.value ?? '')
  }

  /** Finds the run after a page load. */
  async find() {
    try {
      // The node's id is settled only once it lies in its graph.
      await new Promise((resolve) => setTimeout(resolve))
      const run = await fetchRun(executionId(this.app, this.node), this.name, this.node.properties[RUN] ?? '')
      if (run && !this.isDisposed) this._watch(run)
    } catch {
      // Without an answer the panel stays empty; the next start tells of itself.
    }
  }

  /** @param {{node: string, name: string, run: string}} begun */
  _begin(begun) {
    if (begun.node !== executionId(this.app, this.node) || (this.name && this.name.trim() !== begun.name.trim())) return
    this.beginsUntil = performance.now() + BEGIN_MS
    this._watch(begun.run)
  }

  /** @param {string} run */
  _watch(run) {
    this.node.properties[RUN] = run
    if (this.story?.run !== run) this.story = new Story(run)
    this.look()
  }

  /** Asks the server, and again in a moment while the run goes on. */
  async look() {
    clearTimeout(this.timer)
    const { story } = this
    if (!story || this.isDisposed || document.hidden || this.isLooking) return
    this.isLooking = true
    let goesOn = true
    try {
      const answer = await fetchEvents(story.run, story.cursor)
      if (story !== this.story || this.isDisposed) return
      story.take(answer)
      if (answer.running) this.beginsUntil = 0
      goesOn = answer.running || performance.now() < this.beginsUntil
      this.onChange()
    } catch (error) {
      if (error instanceof RefusedError && story === this.story) {
        // The run's folder is gone.
        this.story = undefined
        this.onChange()
        goesOn = false
      }
    } finally {
      this.isLooking = false
      if (story !== this.story) this.look()
      else if (goesOn && !this.isDisposed) this.timer = window.setTimeout(() => this.look(), POLL_MS)
    }
  }

  /** @param {import('./panel.mjs').Command} command @returns {Promise<string>} the problem, if there is one */
  async tell(command) {
    if (!this.story) return ''
    try {
      await sendCommand(this.story.run, command)
      this.look()
      return ''
    } catch (error) {
      return error instanceof Error ? error.message : String(error)
    }
  }

  dispose() {
    this.isDisposed = true
    clearTimeout(this.timer)
    this.endListening()
  }
}
