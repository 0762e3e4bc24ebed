// @ts-check
// The sample pictures in a row, by epoch; a click shows one large.
import { sampleUrl } from '../api.js'
import { h } from '../editor/dom.mjs'

const MAX_SHOWN = 300
const STYLE = new URL('./panel.css', import.meta.url).href

export class Strip {
  /** @param {import('./text.mjs').Translate} t */
  constructor(t) {
    this.t = t
    this.element = h('div', { class: 'strip', hidden: true })
    this.run = ''
    this.key = ''
    /** @type {import('./story.mjs').Sample[]} */
    this.samples = []
    this.element.addEventListener('wheel', (event) => {
      if (this.element.scrollWidth <= this.element.clientWidth || event.ctrlKey) return
      event.preventDefault()
      event.stopPropagation()
      this.element.scrollLeft += event.deltaY + event.deltaX
    })
  }

  get isShown() {
    return this.samples.length > 0
  }

  /** @param {import('./story.mjs').Story} story */
  show(story) {
    const samples = story.marks.samples.slice(-MAX_SHOWN)
    const key = `${story.run}|${samples.map((sample) => `${sample.file}@${sample.time}`).join('|')}`
    if (key === this.key) return
    const { element } = this
    const wasAtEnd = element.hidden || element.scrollLeft + element.clientWidth >= element.scrollWidth - 20
    Object.assign(this, { key, samples, run: story.run })
    element.hidden = !samples.length
    element.replaceChildren(...groups(samples).map((group) => h('figure', {},
      h('div', { class: 'pictures' }, ...group.map((sample) => h('button', { class: 'picture', title: sample.prompt, onclick: () => this._enlarge(sample) },
        h('img', { src: sampleUrl(story.run, sample, 256), alt: sample.prompt, loading: 'lazy', draggable: 'false' })))),
      h('figcaption', {}, title(group[0], this.t)))))
    if (wasAtEnd) requestAnimationFrame(() => { element.scrollLeft = element.scrollWidth })
  }

  /** @param {import('./story.mjs').Sample} first */
  _enlarge(first) {
    const { run, t } = this
    let sample = first
    const image = h('img', { alt: '' }), caption = h('div', { class: 'large-caption' })
    const show = () => {
      image.src = sampleUrl(run, sample, 1536)
      image.style.backgroundImage = `url("${sampleUrl(run, sample, 256)}")`
      image.alt = sample.prompt
      caption.textContent = `${title(sample, t)} · ${t('seed', { seed: sample.seed })} · ${sample.prompt}`
    }
    const move = (/** @type {number} */ steps) => {
      const at = this.samples.findIndex((each) => each.number === sample.number)
      sample = this.samples[Math.min(this.samples.length - 1, Math.max(0, at + steps))] ?? sample
      show()
    }
    const dialog = h('dialog', { class: 'athanor-sample', style: 'padding: 0; border: 0; background: none; width: 100vw; height: 100vh; max-width: none; max-height: none' })
    const content = h('div', { class: 'large' },
      h('button', { class: 'large-step', title: t('previous'), 'aria-label': t('previous'), onclick: () => move(-1) }, '‹'),
      h('figure', {}, image, caption),
      h('button', { class: 'large-step', title: t('next'), 'aria-label': t('next'), onclick: () => move(1) }, '›'),
      h('button', { class: 'large-close', title: t('close'), 'aria-label': t('close'), onclick: () => dialog.close() }, '×'))
    const host = h('div')
    host.attachShadow({ mode: 'open' }).append(h('link', { rel: 'stylesheet', href: STYLE }), content)
    dialog.append(host)
    dialog.addEventListener('close', () => dialog.remove())
    dialog.addEventListener('click', (event) => event.composedPath()[0] === content && dialog.close())
    dialog.addEventListener('keydown', (event) => {
      event.stopPropagation()
      if (event.key === 'ArrowLeft' || event.key === 'ArrowRight') move(event.key === 'ArrowLeft' ? -1 : 1)
    })
    document.body.append(dialog)
    dialog.showModal()
    show()
  }
}

/** @param {import('./story.mjs').Sample} sample @param {import('./text.mjs').Translate} t */
function title(sample, t) {
  return sample.epoch == null ? t('atStep', { step: sample.step }) : t('atEpoch', { epoch: sample.epoch })
}

/** Those of one step together. @param {import('./story.mjs').Sample[]} samples */
function groups(samples) {
  /** @type {import('./story.mjs').Sample[][]} */
  const found = []
  for (const sample of samples) {
    const last = found.at(-1)
    if (last && last[0].step === sample.step && last[0].epoch === sample.epoch) last.push(sample)
    else found.push([sample])
  }
  return found
}
