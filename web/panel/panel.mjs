// @ts-check
// The panel as an element: numbers, curve, pictures, buttons.
import { h } from '../editor/dom.mjs'
import { CurveView, short } from './curve.mjs'
import { Strip } from './strip.mjs'
import { duration } from './text.mjs'

const STYLE = new URL('./panel.css', import.meta.url).href
const NOTE_MS = 6000
const EMPTY_PX = 34, RUN_PX = 264, STRIP_PX = 84

/** @typedef {'stop' | 'stop-epoch' | 'go-on' | 'sample' | 'save'} Command */

export class Panel {
  /** @param {import('./text.mjs').Translate} t @param {(command: Command) => Promise<string>} tell sends a wish; resolves with a problem or nothing */
  constructor(t, tell) {
    this.t = t
    this.tell = tell
    const part = (/** @type {string} */ name) => h('span', { class: name })
    this.parts = { state: part('state'), name: part('name'), step: part('num'), epoch: part('num'), left: part('num left'), loss: part('fact train'), heldOut: part('fact held-out'), saved: part('fact saved'), rate: part('fact rate'), pace: part('fact'), memory: part('fact') }
    this.bar = h('div', { class: 'bar' }, h('div'))
    this.canvas = h('canvas')
    this.curve = new CurveView(this.canvas, t)
    this.strip = new Strip(t)
    this.note = h('div', { class: 'note', hidden: true })
    this.noteUntil = 0
    this.buttons = {
      stop: this._button('stop', 'stopHint', () => this._ask('stop')),
      stopEpoch: this._button('stopEpoch', 'stopEpochHint', () => this._ask(this.buttons.stopEpoch.getAttribute('aria-pressed') === 'true' ? 'go-on' : 'stop-epoch')),
      sample: this._button('sample', 'sampleHint', () => this._ask('sample', 'sampleAsked')),
      save: this._button('save', 'saveHint', () => this._ask('save', 'saveAsked')),
    }
    const { state, name, step, epoch, left, ...facts } = this.parts
    this.body = h('div', { class: 'body', hidden: true },
      h('header', {}, state, name, h('span', { class: 'nums' }, step, epoch, left)),
      this.bar,
      h('div', { class: 'facts' }, ...Object.values(facts)),
      h('div', { class: 'plot' }, this.canvas), this.strip.element, this.note,
      h('footer', {}, ...Object.values(this.buttons)))
    this.empty = h('div', { class: 'empty' }, t('empty'))
    this.element = h('div', { class: 'athanor-panel' })
    this.element.attachShadow({ mode: 'open' }).append(h('link', { rel: 'stylesheet', href: STYLE }), h('div', { class: 'panel' }, this.empty, this.body))
    this._fit()
  }

  /** How much room it needs, in px. */
  get height() {
    if (this.body.hidden) return EMPTY_PX
    return RUN_PX + (this.strip.isShown ? STRIP_PX : 0)
  }

  /** @param {import('./story.mjs').Story | undefined} story */
  show(story) {
    const answer = story?.answer
    this.body.hidden = !answer
    this.empty.hidden = !!answer
    if (story && answer) {
      this._numbers(story, answer)
      this._controls(answer)
      this._notes(story, answer)
      this.strip.show(story)
      this.curve.show(story)
    }
    this._fit()
  }

  redraw() {
    this.curve.draw()
  }

  dispose() {
    this.curve.dispose()
  }

  _fit() {
    this.element.style.cssText = `contain: layout size; width: 100%; height: 100%; min-height: ${this.height}px; overflow: hidden`
  }

  /** @param {import('./text.mjs').TextKey} label @param {import('./text.mjs').TextKey} hint @param {() => void} onclick */
  _button(label, hint, onclick) {
    return h('button', { class: 'quiet', title: this.t(hint), onclick }, this.t(label))
  }

  /** @param {Command} command @param {import('./text.mjs').TextKey} [said] */
  async _ask(command, said) {
    const problem = await this.tell(command)
    if (problem || said) this._say(problem || (said ? this.t(said) : ''), problem ? 'bad' : '')
  }

  /** @param {string} text @param {string} kind */
  _say(text, kind) {
    this.note.textContent = text
    this.note.title = text
    this.note.className = `note ${kind}`
    this.note.hidden = !text
    this.noteUntil = performance.now() + NOTE_MS
  }

  /** @param {import('./story.mjs').Story} story @param {import('./story.mjs').Answer} answer */
  _numbers(story, answer) {
    const { t, parts } = this, { now } = answer
    const state = stateOf(answer)
    parts.state.textContent = t(state === 'phase' ? phaseKey(now) : state, now.phase ?? {})
    parts.state.dataset.state = state
    parts.name.textContent = parts.name.title = story.run
    parts.step.textContent = now.total_steps ? t('step', { step: now.step, total: now.total_steps }) : ''
    parts.epoch.textContent = now.total_epochs ? t('epoch', { epoch: now.epoch, total: now.total_epochs }) : ''
    parts.left.textContent = answer.running && now.remaining_sec != null ? t('left', { time: duration(now.remaining_sec, t) }) : ''
    this.bar.firstElementChild?.setAttribute('style', `width: ${now.total_steps ? (100 * now.step) / now.total_steps : 0}%`)
    const heldOut = story.marks.validation.at(-1), epochs = story.marks.saved.filter(([, epoch]) => epoch != null)
    const rates = Object.entries(now.rates), differing = [...new Set(rates.map(([, rate]) => rate ? rate.toExponential(1) : '0'))]
    fact(parts.loss, now.smooth != null && `${t('loss')} ${short(now.smooth)}`, t('lossHint'))
    fact(parts.heldOut, heldOut && `${t('heldOut')} ${short(heldOut[1])}`, t('heldOutHint'))
    fact(parts.saved, epochs.length > 0 && `${t('saved')} ${epochs.length}`, t('savedHint'))
    fact(parts.rate, rates.length > 0 && `${t('rate')} ${differing.join(' · ')}`, t('rateHint', { rates: rates.map(([name, rate]) => `${name} ${rate.toPrecision(3)}`).join(', ') }))
    fact(parts.pace, now.seconds_a_step != null && t('pace', { seconds: Number(now.seconds_a_step.toPrecision(2)) }), '')
    const size = (now.gpu_mib ?? now.ram_mib ?? 0) / 1024
    const sizes = { gpu: ((now.gpu_mib ?? 0) / 1024).toFixed(1), ram: ((now.ram_mib ?? 0) / 1024).toFixed(1) }
    fact(parts.memory, size > 0 && t('memory', { size: size.toFixed(1) }), t(now.gpu_mib == null ? 'memoryHint' : 'memoryGpuHint', sizes))
  }

  /** @param {import('./story.mjs').Answer} answer */
  _controls({ control }) {
    const { buttons, t } = this
    buttons.stop.disabled = !control.here || control.stop === 'stop'
    buttons.stopEpoch.disabled = !control.here || control.stop === 'stop'
    buttons.stopEpoch.setAttribute('aria-pressed', String(control.stop === 'stop-epoch'))
    buttons.sample.disabled = !control.here || !control.samples
    buttons.save.disabled = !control.here
    buttons.sample.title = t(control.samples ? 'sampleHint' : 'noPrompts')
  }

  /** @param {import('./story.mjs').Story} story @param {import('./story.mjs').Answer} answer */
  _notes(story, answer) {
    if (performance.now() < this.noteUntil && !this.note.hidden) return
    const warnings = story.marks.warnings, state = stateOf(answer)
    if (state === 'failed') this._say(answer.now.message, 'bad')
    else if (state === 'stopped' || state === 'broken') this._say(this.t('queueAgain'), '')
    else if (warnings.length) this._say(`⚠ ${warnings.at(-1)}`, 'warn')
    else this._say(answer.running && !answer.control.here ? this.t('elsewhere') : '', '')
    if (warnings.length && state !== 'failed') this.note.title = warnings.join('\n')
    this.noteUntil = 0
  }
}

/** @param {import('./story.mjs').Answer} answer */
function stateOf({ now, running, control }) {
  const ended = now.state === 'stopped' || now.state === 'finished' || now.state === 'failed'
  if (!running) return ended || now.state === 'waiting' ? now.state : 'broken'
  if (control.stop === 'stop') return 'stopping'
  if (ended || now.state === 'waiting') return 'starting'
  if (now.state === 'preparing') return 'phase'
  return control.stop === 'stop-epoch' ? 'stoppingEpoch' : 'training'
}

/** @param {import('./story.mjs').Now} now */
function phaseKey(now) {
  return now.phase?.name === 'text' ? 'text' : now.phase?.name === 'latents' ? 'latents' : now.phase?.name === 'class' ? 'class' : 'preparing'
}

/** @param {HTMLElement} element @param {string | false | null | undefined} text @param {string} title */
function fact(element, text, title) {
  element.hidden = !text
  element.textContent = text || ''
  element.title = title
}
