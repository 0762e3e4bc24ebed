// @ts-check
// The loss over the steps, drawn on a canvas: smoothed and raw, held-out dots, saved epochs, and the learning rate behind.

const LEFT = 40, RIGHT = 8, TOP = 8, BOTTOM = 18
const FONT = '10px Inter, "Segoe UI", "Noto Sans", "Microsoft YaHei", "PingFang SC", "Noto Sans CJK SC", system-ui, sans-serif'

export class CurveView {
  /** @param {HTMLCanvasElement} canvas @param {import('./text.mjs').Translate} t */
  constructor(canvas, t) {
    this.canvas = canvas
    this.t = t
    this.hoverX = -1
    /** @type {import('./story.mjs').Story | undefined} */
    this.story = undefined
    this.sizes = new ResizeObserver(() => this.draw())
    this.sizes.observe(canvas)
    canvas.addEventListener('pointermove', (event) => this._hover(event.offsetX))
    canvas.addEventListener('pointerleave', () => this._hover(-1))
  }

  /** @param {import('./story.mjs').Story} story */
  show(story) {
    this.story = story
    this.draw()
  }

  dispose() {
    this.sizes.disconnect()
  }

  /** @param {number} x */
  _hover(x) {
    this.hoverX = x
    this.draw()
  }

  draw() {
    const { canvas, story } = this
    const width = canvas.clientWidth, height = canvas.clientHeight
    if (!story?.answer || width < 60 || height < 40) return
    // Twice the pixels, because the graph can be zoomed in.
    const ratio = 2 * Math.max(1, window.devicePixelRatio || 1)
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio)
      canvas.height = Math.round(height * ratio)
    }
    const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'))
    pen.setTransform(ratio, 0, 0, ratio, 0, 0)
    pen.clearRect(0, 0, width, height)
    pen.font = FONT
    const style = getComputedStyle(canvas)
    const colour = (/** @type {string} */ name) => style.getPropertyValue(name).trim()
    const { curve, marks, answer } = story
    const last = lastStep(answer.now)
    const [low, high] = limits(curve, marks.validation)
    const axes = {
      x: (/** @type {number} */ step) => LEFT + 4 + ((width - LEFT - RIGHT - 8) * step) / last,
      y: (/** @type {number} */ loss) => height - BOTTOM - (height - TOP - BOTTOM) * Math.min(1, Math.max(0, (loss - low) / (high - low))),
    }
    this._grid(pen, axes, { width, height, last, low, high }, colour)
    const steps = marks.saved.map(([step]) => step)
    const gap = (axes.x(Math.max(...steps)) - axes.x(Math.min(...steps))) / Math.max(1, steps.length - 1)
    let before = -Infinity
    for (const [step, epoch] of marks.saved) {
      const x = Math.round(axes.x(step)) + 0.5
      if (Math.abs(x - before) < 3) continue
      before = x
      pen.strokeStyle = colour('--saved')
      pen.globalAlpha = 0.28
      // Where they are many, they would be a wall before the curve.
      if (gap >= 8 || steps.length === 1) line(pen, [[x, TOP], [x, height - BOTTOM]], 1)
      pen.globalAlpha = epoch === null ? 0.6 : 1
      line(pen, [[x, height - BOTTOM - 6], [x, height - BOTTOM]], 2)
    }
    pen.globalAlpha = 1
    pen.save()
    pen.beginPath()
    pen.rect(LEFT, TOP - 4, width - LEFT - RIGHT + 4, height - TOP - BOTTOM + 8)
    pen.clip()
    const middle = (/** @type {number} */ i) => Math.min(answer.now.step, (i + 0.5) * curve.stride + 0.5)
    pen.strokeStyle = colour('--rate')
    // The rate has a scale of its own, from 0 at the bottom to its highest at the top.
    const top = curve.rate.reduce((/** @type {number} */ one, other) => Math.max(one, other ?? 0), 0)
    const rateY = (/** @type {number} */ rate) => height - BOTTOM - ((height - TOP - BOTTOM) * 0.97 * rate) / top
    if (top > 0) for (const part of runs(curve.rate)) line(pen, part.map((i) => [axes.x(middle(i)), rateY(/** @type {number} */ (curve.rate[i]))]), 1.2)
    pen.strokeStyle = colour('--train')
    pen.globalAlpha = 0.38
    for (const part of runs(curve.low)) line(pen, part.flatMap((i) => extremes(curve, i).map((loss) => [axes.x(middle(i)), axes.y(loss)])), 1)
    pen.globalAlpha = 1
    for (const part of runs(curve.smooth)) line(pen, part.map((i) => [axes.x(middle(i)), axes.y(/** @type {number} */ (curve.smooth[i]))]), 2)
    pen.strokeStyle = pen.fillStyle = colour('--held-out')
    const dots = marks.validation.map(([step, loss]) => [axes.x(step), axes.y(loss)])
    line(pen, dots, 1.5)
    for (const [x, y] of dots) dot(pen, x, y, dots.length > 60 ? 1.5 : 3)
    pen.restore()
    this._tooltip(pen, axes, { width, height, last }, colour)
  }

  /** @param {CanvasRenderingContext2D} pen @param {Axes} axes @param {{width: number, height: number, last: number, low: number, high: number}} box @param {(name: string) => string} colour */
  _grid(pen, axes, box, colour) {
    pen.lineWidth = 1
    pen.textBaseline = 'middle'
    for (const [value, text] of ticks(box.low, box.high, Math.max(3, Math.floor(box.height / 30)))) {
      const y = Math.round(axes.y(value)) + 0.5
      pen.strokeStyle = colour('--grid')
      line(pen, [[LEFT, y], [box.width - RIGHT, y]], 1)
      pen.fillStyle = colour('--dim')
      pen.textAlign = 'right'
      pen.fillText(text, LEFT - 5, y, LEFT - 7)
    }
    pen.textBaseline = 'top'
    pen.textAlign = 'center'
    for (const [value, text] of ticks(0, box.last, Math.max(2, Math.floor(box.width / 80)))) {
      if (value !== Math.round(value)) continue
      const x = axes.x(value)
      pen.fillText(value < 10000 ? String(value) : text, Math.min(x, box.width - RIGHT - pen.measureText(text).width / 2), box.height - BOTTOM + 5)
    }
  }

  /** @param {CanvasRenderingContext2D} pen @param {Axes} axes @param {{width: number, height: number, last: number}} box @param {(name: string) => string} colour */
  _tooltip(pen, axes, box, colour) {
    const { curve, marks } = /** @type {import('./story.mjs').Story} */ (this.story)
    if (this.hoverX < LEFT || !curve.smooth.length) return
    const step = ((this.hoverX - LEFT - 4) / (box.width - LEFT - RIGHT - 8)) * box.last
    const i = Math.min(curve.smooth.length - 1, Math.max(0, Math.floor((step - 0.5) / curve.stride)))
    const smooth = curve.smooth[i]
    if (smooth == null) return
    const near = marks.validation.filter(([at]) => Math.abs(axes.x(at) - this.hoverX) < 6).at(-1)
    const first = i * curve.stride + 1
    const lines = [this.t(curve.stride > 1 ? 'hoverRange' : 'hover', { step: first, last: first + curve.stride - 1, loss: short(smooth) })]
    if (near) lines.push(`${this.t('heldOut')}: ${short(near[1])}`)
    const kept = marks.saved.filter(([at]) => Math.abs(axes.x(at) - this.hoverX) < 6).at(-1)
    if (kept) lines.push(`${this.t('saved')}: ${kept[1] === null ? this.t('atStep', { step: kept[0] }) : this.t('atEpoch', { epoch: kept[1] })}`)
    if (curve.rate[i] != null) lines.push(`${this.t('rate')}: ${/** @type {number} */ (curve.rate[i]).toExponential(2)}`)
    const x = axes.x(first + (curve.stride - 1) / 2)
    pen.strokeStyle = colour('--dim')
    pen.globalAlpha = 0.5
    line(pen, [[x, TOP], [x, box.height - BOTTOM]], 1)
    pen.globalAlpha = 1
    pen.fillStyle = colour('--train')
    dot(pen, x, axes.y(smooth), 3)
    const wide = Math.max(...lines.map((text) => pen.measureText(text).width)) + 12
    const left = x + wide + 8 > box.width ? x - wide - 6 : x + 6
    pen.fillStyle = colour('--back')
    pen.strokeStyle = colour('--grid')
    pen.beginPath()
    pen.roundRect(left, TOP, wide, 15 * lines.length + 5, 4)
    pen.fill()
    pen.stroke()
    pen.fillStyle = colour('--text')
    pen.textAlign = 'left'
    pen.textBaseline = 'top'
    lines.forEach((text, row) => pen.fillText(text, left + 6, TOP + 5 + 15 * row))
  }
}

/** @typedef {{x: (step: number) => number, y: (loss: number) => number}} Axes */

/** As a curve wants to be read: 3 digits. @param {number} loss */
export function short(loss) {
  if (loss === 0) return '0'
  return Math.abs(loss) >= 1e-3 && Math.abs(loss) < 1e4 ? String(Number(loss.toPrecision(3))) : loss.toExponential(1)
}

/** Where the axis ends: a little ahead of the training, never behind its end. @param {import('./story.mjs').Now} now */
function lastStep(now) {
  const ahead = now.state === 'finished' ? now.step : Math.ceil(Math.max(now.step * 1.15, 10))
  return Math.max(1, Math.min(now.total_steps || ahead, ahead))
}

/** Room for the smoothed and the held-out losses and for the middle 96 % of the raw ones. @param {import('./story.mjs').Curve} curve @param {[number, number][]} validation @returns {[number, number]} */
function limits(curve, validation) {
  const there = (/** @type {(number | null)[]} */ values) => /** @type {number[]} */ (values.filter((value) => value != null))
  const lows = there(curve.low).sort((one, other) => one - other), highs = there(curve.high).sort((one, other) => one - other)
  const certain = [...there(curve.smooth), ...validation.map(([, loss]) => loss)]
  const values = [...certain, ...lows.slice(Math.floor(lows.length * 0.02), 1 + Math.floor(lows.length * 0.02)), ...highs.slice(Math.ceil(highs.length * 0.98) - 1, Math.ceil(highs.length * 0.98))]
  if (!values.length) return [0, 1]
  const low = values.reduce((one, other) => Math.min(one, other)), high = values.reduce((one, other) => Math.max(one, other))
  // One number alone, and a line that hardly moves, lie in the middle of a scale that can be written.
  const spread = Math.max(high - low, Math.abs(high) * (high === low ? 0.2 : 0.02)) || 1
  const room = (spread - (high - low)) / 2 + 0.06 * spread
  return [low < 0 ? low - room : Math.max(0, low - room), high + room]
}

/** Round numbers between the two, about `count` of them. @param {number} low @param {number} high @param {number} count @returns {[number, string][]} */
export function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough * 0.999) ?? power
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9))
  /** @type {[number, string][]} */
  const found = []
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
    const value = Number((i * step).toPrecision(12))
    found.push([value, tickText(value, step, digits)])
  }
  return found
}

/** Short, and other than the next one's. @param {number} value @param {number} step from one to the next @param {number} digits behind the point that tell them apart */
function tickText(value, step, digits) {
  if (value === 0) return '0'
  const plain = value >= 10000 ? `${value / 1000}k` : value.toFixed(digits)
  if (plain.length <= 6) return plain
  const power = (/** @type {number} */ number) => Math.floor(Math.log10(Math.abs(number)) + 1e-9)
  return value.toExponential(Math.max(0, power(value) - power(step))).replace('e+', 'e')
}

/** The lowest and the highest loss of a column, in an order that keeps the line from crossing itself. @param {import('./story.mjs').Curve} curve @param {number} i */
function extremes(curve, i) {
  const low = /** @type {number} */ (curve.low[i]), high = /** @type {number} */ (curve.high[i])
  if (low === high) return [low]
  return i % 2 ? [high, low] : [low, high]
}

/** Indexes in a row that have a value. @param {(number | null)[]} values */
function runs(values) {
  /** @type {number[][]} */
  const found = []
  values.forEach((value, i) => {
    if (value == null) return
    if (i > 0 && values[i - 1] != null) found[found.length - 1].push(i)
    else found.push([i])
  })
  return found
}

/** @param {CanvasRenderingContext2D} pen @param {number[][]} points @param {number} width */
function line(pen, points, width) {
  if (!points.length) return
  pen.lineWidth = width
  pen.lineJoin = 'round'
  pen.beginPath()
  if (points.length === 1) pen.arc(points[0][0], points[0][1], width / 2, 0, 7)
  points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)))
  pen.stroke()
}

/** @param {CanvasRenderingContext2D} pen @param {number} x @param {number} y @param {number} radius */
function dot(pen, x, y, radius) {
  pen.beginPath()
  pen.arc(x, y, radius, 0, 7)
  pen.fill()
}
