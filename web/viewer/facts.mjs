// @ts-check
// The parameters of the picture that is looked at, and what can be done with it.
import { pictureUrl } from '../api.js'
import { h } from '../editor/dom.mjs'

/** @typedef {{use: () => void}} Deeds */

export class FactsView {
  /** @param {import('./model.mjs').Model} model @param {import('./text.mjs').Translate} t @param {Deeds} deeds */
  constructor(model, t, deeds) {
    this.model = model
    this.t = t
    this.title = h('h3')
    this.list = h('dl')
    this.use = h('button', { class: 'primary', title: t('useHint'), onclick: deeds.use }, t('use'))
    const pin = (/** @type {'a' | 'b'} */ side, /** @type {import('./text.mjs').TextKey} */ text, /** @type {import('./text.mjs').TextKey} */ hint) => h('button', { class: 'quiet', title: t(hint), onclick: () => model.pin(side) }, t(text))
    this.open = h('a', { class: 'quiet', target: '_blank', rel: 'noopener' }, t('open'))
    this.element = h('aside', { class: 'facts' }, this.title, this.use,
      h('div', { class: 'row' }, pin('a', 'pinA', 'pinAHint'), pin('b', 'pinB', 'pinBHint')),
      this.list,
      h('div', { class: 'row' }, h('button', { class: 'quiet', onclick: () => this._copy() }, t('copy')), this.open))
  }

  draw() {
    const { model, t } = this, { sheet, view } = model, facts = model.facts(view.at), number = model.number(view.at)
    const written = number === null ? null : sheet?.drawn[number]
    const isChosen = model.isChosen(view.at), canUse = Boolean(facts && facts.epoch > 0)
    this.title.textContent = model.label(view.at)
    this.use.disabled = !canUse
    this.use.textContent = isChosen ? `★ ${t('chosen')}` : t('use')
    this.use.title = t(canUse ? 'useHint' : 'noUse')
    this.use.classList.toggle('is-chosen', isChosen)
    this.open.hidden = written == null
    if (sheet && number !== null && written != null) this.open.href = pictureUrl(sheet.sheet, number, written, 0)
    this.list.replaceChildren(...rows(model, t).flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]))
  }

  async _copy() {
    const { model, t } = this, text = rows(model, t).map(([name, value]) => `${name}: ${value}`).join('\n')
    try {
      await navigator.clipboard.writeText(text)
    } catch {
      // Over plain http from another computer there is no clipboard but the old one.
      const field = h('textarea', { class: 'copied' })
      field.value = text
      this.element.append(field)
      field.select()
      document.execCommand('copy')
      field.remove()
    }
    model.say(t('copied'))
  }
}

/** @param {import('./model.mjs').Model} model @param {import('./text.mjs').Translate} t @returns {[string, string][]} */
function rows(model, t) {
  const facts = model.facts(model.view.at), size = model.sheet?.size
  if (!facts) return []
  const isBare = facts.epoch === 0, { strength_model: ofModel, strength_text: ofText } = facts
  /** @type {[string, string | number][]} */
  const all = [
    [t('run'), facts.run],
    [t('epoch'), isBare ? t('baseline') : facts.epoch],
    [t('strength'), isBare ? '' : ofModel === ofText ? ofModel : t('strengthParts', { model: ofModel, text: ofText })],
    [t('checkpoint'), facts.checkpoint],
    [t('seed'), facts.seed],
    [t('steps'), facts.steps],
    [t('guidance'), facts.guidance],
    [t('fluxGuidance'), facts.flux_guidance || ''],
    [t('sampler'), facts.sampler],
    [t('scheduler'), facts.scheduler],
    [t('size'), size ? `${size[0]} × ${size[1]}` : ''],
    [t('prompt'), facts.prompt],
    [t('negative'), facts.negative_prompt],
  ]
  return all.filter(([, value]) => value !== '').map(([name, value]) => [name, String(value)])
}
