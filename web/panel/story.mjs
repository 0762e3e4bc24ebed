// @ts-check
// What the page knows of a run: the server's answers put together.

/**
 * @typedef {{number: number, step: number, epoch: number | null, file: string, prompt: string, seed: number, time: number}} Sample
 * @typedef {{from: number, stride: number, low: (number | null)[], high: (number | null)[], smooth: (number | null)[], rate: (number | null)[]}} Curve
 * @typedef {{validation: [number, number][], saved: [number, number | null][], samples: Sample[], warnings: string[]}} Marks
 * @typedef {object} Now
 * @property {'waiting' | 'preparing' | 'training' | 'stopped' | 'finished' | 'failed'} state
 * @property {string} message
 * @property {{name: string, done: number, total: number} | null} phase
 * @property {number} step
 * @property {number} total_steps
 * @property {number} epoch
 * @property {number} total_epochs
 * @property {number} steps_per_epoch
 * @property {number | null} loss
 * @property {number | null} smooth
 * @property {Record<string, number>} rates
 * @property {number | null} seconds_a_step
 * @property {number | null} remaining_sec
 * @property {number | null} ram_mib
 * @property {number | null} gpu_mib
 * @typedef {{run: string, running: boolean, control: {here: boolean, stop: string | null, samples: boolean}, cursor: string, curve: Curve, now: Now, marks?: Marks}} Answer
 */

export class Story {
  /** @param {string} run */
  constructor(run) {
    this.run = run
    this.cursor = ''
    /** @type {Curve} */
    this.curve = { from: 0, stride: 1, low: [], high: [], smooth: [], rate: [] }
    /** @type {Marks} */
    this.marks = { validation: [], saved: [], samples: [], warnings: [] }
    /** @type {Answer | undefined} */
    this.answer = undefined
  }

  /** Takes what the server has told to this story's cursor. @param {Answer} answer */
  take(answer) {
    const { from, stride, low, high, smooth, rate } = answer.curve
    const joined = (/** @type {(number | null)[]} */ old, /** @type {(number | null)[]} */ more) => [...old.slice(0, from), ...more]
    this.curve = { from: 0, stride, low: joined(this.curve.low, low), high: joined(this.curve.high, high), smooth: joined(this.curve.smooth, smooth), rate: joined(this.curve.rate, rate) }
    if (answer.marks) this.marks = answer.marks
    this.cursor = answer.cursor
    this.answer = answer
  }
}
