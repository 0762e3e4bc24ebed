// @ts-check
// The viewer on XY Plot Compare: which comparison it shows, what the node keeps, and how it lies in both renderers.
import { fetchSheet, fetchSheetState, onSheetBegun, RefusedError, sendChoice } from '../api.js'
import { executionId, passOn } from '../graph.mjs'
import { Model } from './model.mjs'
import { texts } from './text.mjs'
import { writeChoice } from './use.mjs'
import { readView } from './view.mjs'
import { Viewer } from './viewer.mjs'
import { openFull } from './window.mjs'

export const COMPARE_NODE = 'AthanorXYPlotCompare'
const SHEET = 'athanor_sheet', VIEW = 'athanor_view'
const POLL_MS = 1000
const EMPTY_PX = 34, SHOWN_PX = 400, MIN_WIDTH_PX = 420

/** Puts the viewer on a node that was just made. @param {any} app ComfyUI's @param {any} node */
export function prepareViewer(app, node) {
  const t = texts(app.extensionManager?.setting?.get('Comfy.Locale') ?? navigator.language)
  const face = new Face(app, node, t)
  const { viewer, model } = face
  const widget = node.addDOMWidget('viewer', 'ATHANOR_VIEWER', viewer.element, { serialize: false, hideOnZoom: false, getValue: () => '', setValue: () => {} })
  widget.serialize = false
  widget.computeLayoutSize = () => ({ minHeight: face.height, minWidth: MIN_WIDTH_PX })
  let height = face.height
  const fitNode = () => {
    viewer.element.style.cssText = `contain: layout size; width: 100%; height: 100%; min-height: ${face.height}px; overflow: hidden`
    if (face.height === height) return
    const more = face.height - height
    height = face.height
    node.setSize([Math.max(node.size[0], MIN_WIDTH_PX + 40), Math.max(node.computeSize()[1], node.size[1] + (more < 0 ? more : 0))])
    node.graph?.setDirtyCanvas?.(true, true)
  }
  fitNode()
  // The viewer shows the pictures, so the node does not show them again below it.
  node.hideOutputImages = true
  node.onDrawBackground = () => {}

  const cleanup = new AbortController(), { signal } = cleanup
  model.addEventListener('sheet', fitNode, { signal })
  model.addEventListener('view', () => face.remember(), { signal })
  viewer.root.addEventListener('focusout', () => face.keep(), { signal })
  window.addEventListener('pagehide', () => face.keep(), { signal })
  document.addEventListener('visibilitychange', () => face.look(), { signal })
  passOn(app, viewer.element, signal)
  const onConfigure = node.onConfigure
  node.onConfigure = function () {
    onConfigure?.apply(this, arguments)
    // The node's id is settled only once it lies in its graph.
    setTimeout(() => face.restore())
  }
  const onExecuted = node.onExecuted
  node.onExecuted = function (/** @type {any} */ output) {
    onExecuted?.apply(this, arguments)
    const sheet = output?.[SHEET]?.[0]
    if (sheet) face.watch(sheet)
  }
  const onRemoved = node.onRemoved
  node.onRemoved = function () {
    onRemoved?.apply(this, arguments)
    cleanup.abort()
    face.dispose()
  }
}

/** One node's comparison: fetched, followed while it is drawn, remembered. */
class Face {
  /** @param {any} app @param {any} node @param {import('./text.mjs').Translate} t */
  constructor(app, node, t) {
    this.app = app
    this.node = node
    this.t = t
    this.model = new Model()
    const deeds = { use: () => this.use() }
    this.viewer = new Viewer(this.model, t, { ...deeds, full: () => this.openFull(), isFull: false })
    /** @type {HTMLDialogElement | undefined} */
    this.dialog = undefined
    this.name = ''
    this.timer = 0
    this.isDisposed = this.isLooking = false
    this.endListening = onSheetBegun(({ node: id, sheet }) => {
      if (id === executionId(app, node)) this.watch(sheet)
    })
  }

  /** How much room it needs, in px. */
  get height() {
    return this.model.sheet ? SHOWN_PX : EMPTY_PX
  }

  get key() {
    return `athanor.viewer.${executionId(this.app, this.node)}`
  }

  /** What the workflow brings; after a reload of the page, what was seen last. */
  restore() {
    if (this.isDisposed) return
    const last = takeLast(this.key), sheet = last?.sheet ?? this.node.properties[SHEET]
    this.model.view = readView(last?.view ?? this.node.properties[VIEW])
    if (typeof sheet === 'string' && sheet) this.watch(sheet)
  }

  /** @param {string} name */
  async watch(name) {
    const isOther = name !== this.name
    this.name = name
    try {
      const sheet = await fetchSheet(name)
      if (name !== this.name || this.isDisposed) return
      this.model.take(sheet)
      if (isOther) this.keep()
      this._wait()
    } catch (error) {
      if (!(error instanceof RefusedError) || name !== this.name) return
      this.viewer.setEmpty(this.t('gone'))
      this.model.take(undefined)
    }
  }

  /** What has changed since, and again in a moment while pictures are drawn. */
  async look() {
    clearTimeout(this.timer)
    const { name } = this
    if (!this.model.sheet || this.isDisposed || document.hidden || this.isLooking) return
    this.isLooking = true
    try {
      const state = await fetchSheetState(name)
      if (name === this.name && !this.isDisposed) this.model.takeState(state)
    } catch {
      // Asked again in a moment, or when the page is looked at.
    } finally {
      this.isLooking = false
      this._wait()
    }
  }

  _wait() {
    clearTimeout(this.timer)
    if (this.model.sheet?.running && !this.isDisposed) this.timer = window.setTimeout(() => this.look(), POLL_MS)
  }

  async use() {
    const { model, t } = this, number = model.number(model.view.at)
    if (number === null || !model.facts(model.view.at)?.epoch) return model.say(t('noUse'))
    try {
      const chosen = await sendChoice(this.name, number)
      this.keep()
      const written = writeChoice(this.app, this.node, chosen)
      const said = written.length ? t('used', { epoch: chosen.epoch, places: written.join(', ') }) : t(chosen.own ? 'usedMark' : 'usedOther', { epoch: chosen.epoch, run: chosen.run })
      await this.look()
      model.say(said)
    } catch (error) {
      model.say(error instanceof Error ? error.message : String(error))
    }
  }

  openFull() {
    if (this.dialog || !this.model.sheet) return
    this.viewer.pause(true)
    this.dialog = openFull(this.model, this.t, {
      use: () => this.use(),
      left: () => {
        this.dialog = undefined
        if (this.isDisposed) return
        this.viewer.pause(false)
        this.keep()
        this.viewer.focus()
      },
    })
  }

  /** For a reload of the page. */
  remember() {
    try {
      sessionStorage.setItem(this.key, JSON.stringify({ sheet: this.name, view: this.model.view }))
    } catch {
      // Storage is full or forbidden: then the workflow alone remembers.
    }
  }

  /** For the workflow. Not at every move: each change of the node is a step of the page's undo. */
  keep() {
    if (!this.name || this.isDisposed) return
    this.node.properties[SHEET] = this.name
    this.node.properties[VIEW] = { ...this.model.view }
    this.remember()
  }

  dispose() {
    this.isDisposed = true
    clearTimeout(this.timer)
    this.endListening()
    this.dialog?.close()
    this.viewer.dispose()
  }
}

const wasReloaded = /** @type {PerformanceNavigationTiming | undefined} */ (performance.getEntriesByType('navigation')[0])?.type === 'reload'
const taken = new Set()

/** What this tab has shown last, once after a reload; afterwards workflows are opened as they were saved. @param {string} key @returns {{sheet: unknown, view: unknown} | undefined} */
function takeLast(key) {
  if (!wasReloaded || taken.has(key) || performance.now() > 30_000) return undefined
  taken.add(key)
  try {
    return JSON.parse(sessionStorage.getItem(key) ?? 'null') ?? undefined
  } catch {
    return undefined
  }
}
