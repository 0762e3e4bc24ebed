// @ts-check
// The right side: the tags of the selection, and what can be done to them.
import { fetchScores, thumbnailUrl } from '../api.js'
import { Chips, replaceTag } from './chips.mjs'
import { tagAtCaret, withSuggestions } from './complete.mjs'
import { categoryClass, debounced, h } from './dom.mjs'
import { matchKey, splitTags } from './tags.mjs'

const SCORES_WAIT_MS = 120

export class Panel {
  /**
   * @param {import('./model.mjs').Model} model
   * @param {import('./text.mjs').Translate} t
   * @param {{say: (text: string) => void, addToFilter: (term: string) => void, openLarge: () => void}} actions
   */
  constructor(model, t, { say, addToFilter, openLarge }) {
    this.model = model
    this.t = t
    this.say = say
    /** @type {string[]} */
    this.copied = []
    this.chips = new Chips(model, t, addToFilter)
    this.title = h('strong', { class: 'panel-title' })
    this.about = h('span', { class: 'hint' })
    this.preview = h('button', { class: 'panel-preview', title: t('large'), 'aria-label': t('large'), onclick: openLarge })
    this.isFront = false
    this.place = h('button', { class: 'quiet', onclick: () => this._turnPlace() }, t('addEnd'))
    this.add = h('input', { class: 'field', placeholder: t('add'), 'aria-label': t('add') })
    this.old = h('input', { class: 'field', placeholder: t('replace'), 'aria-label': t('replace') })
    this.fresh = h('input', { class: 'field', placeholder: t('replaceWith'), 'aria-label': t('replaceWith') })
    const complete = (/** @type {HTMLInputElement} */ input, /** @type {boolean} */ withLexicon, /** @type {() => void} */ onEnter) =>
      withSuggestions(input, { model, withLexicon, part: tagAtCaret, inserted: (tag) => tag, onEnter })
    this.scores = h('div', { class: 'scores' })
    this.actions = h('div', { class: 'panel-actions' },
      h('button', { class: 'quiet', title: 'Ctrl+C', onclick: () => this.copy() }, t('copy')),
      h('button', { class: 'quiet', title: 'Ctrl+V', onclick: () => this.paste() }, t('paste')),
      h('span', { class: 'grow' }),
      h('button', { class: 'quiet', title: t('revertHint'), onclick: () => this._revert() }, t('revert')))
    this.body = h('div', { class: 'panel-body' },
      this.preview,
      h('div', { class: 'row' }, complete(this.add, true, () => this._add()), this.place),
      this.chips.element,
      h('div', { class: 'row', title: t('replaceHint') },
        complete(this.old, false, () => this.fresh.focus()),
        complete(this.fresh, true, () => this._replace()),
        h('button', { class: 'quiet', onclick: () => this._replace() }, t('apply'))),
      this.actions, this.scores)
    this.hint = h('p', { class: 'hint panel-hint' }, t('selectHint'))
    this.element = h('aside', { class: 'panel', 'aria-label': t('tags') }, h('div', { class: 'side-head' }, this.title, h('span', { class: 'grow' }), this.about), this.hint, this.body)
    this.askScores = debounced(SCORES_WAIT_MS, () => this._askScores())
    this.onChange = () => this.draw()
    model.addEventListener('captions', this.onChange)
    model.addEventListener('selection', this.onChange)
    /** Of which picture preview and scores are. @type {number | undefined} */
    this.shownScores = undefined
    this.draw()
  }

  /** The only selected picture, or -1. */
  get single() {
    const { selection } = this.model
    return selection.size === 1 ? [...selection][0] : -1
  }

  draw() {
    const { model, t, single } = this
    const hasSelection = model.selection.size > 0
    this.body.hidden = !hasSelection
    this.hint.hidden = hasSelection
    const picture = model.pictures[single]
    this.title.textContent = picture ? picture.name : t('selected', { count: model.selection.size })
    this.title.title = picture?.key ?? ''
    this.about.textContent = picture ? `${picture.width} × ${picture.height}` : ''
    if (this.shownScores !== single) {
      this.shownScores = single
      this.chips.scores = new Map()
      this.scores.replaceChildren()
      this.found = undefined
      this.preview.hidden = !picture
      this.preview.replaceChildren(...(picture ? [h('img', { src: thumbnailUrl(model.id, single, 256), alt: picture.name, draggable: 'false' })] : []))
      if (picture && model.listing.has_scores) this.askScores()
    } else if (this.found) {
      this._drawScores()
    }
    this.chips.draw()
  }

  async _askScores() {
    const number = this.single
    if (number < 0) return
    const found = await fetchScores(this.model.id, number).catch(() => [])
    if (number !== this.single) return
    this.found = found
    this.chips.scores = new Map(found.flatMap(({ tags }) => tags.map(([tag, score]) => /** @type {[string, number]} */ ([matchKey(tag), Math.round(100 * score)]))).reverse())
    this._drawScores()
    this.chips.draw()
  }

  /** What the tagger saw that is not in the caption; a click adds it. */
  _drawScores() {
    const { model, t, single } = this
    const own = new Set(model.captions[single].map(matchKey))
    const rows = (this.found ?? []).flatMap(({ name, tags }) => [
      h('div', { class: 'hint scores-head' }, `${t('scores')} · ${name}`),
      h('div', { class: 'score-list' }, ...tags.map(([tag, score, category]) => h('button', {
        class: `score ${categoryClass(category)}${own.has(matchKey(tag)) ? ' is-there' : ''}`, style: `--share: ${100 * score}%`, title: own.has(matchKey(tag)) ? '' : t('addScored', { tag }),
        onclick: () => {
          model.categories.set(matchKey(tag), category)
          this._addTags([tag])
        },
      }, h('span', { class: 'cloud-tag' }, tag), h('span', { class: 'cloud-count' }, String(Math.round(100 * score)))))),
    ])
    this.scores.replaceChildren(...(rows.length ? rows : [h('p', { class: 'hint' }, t('noScores'))]))
  }

  _turnPlace() {
    this.isFront = !this.isFront
    this.place.textContent = this.t(this.isFront ? 'addFront' : 'addEnd')
  }

  _add() {
    this._addTags(splitTags(this.add.value))
    this.add.value = ''
  }

  /** @param {string[]} fresh */
  _addTags(fresh) {
    const keys = new Set(fresh.map(matchKey))
    this._change((tags) => {
      if (this.isFront) return [...fresh, ...tags.filter((tag) => !keys.has(matchKey(tag)))]
      const own = new Set(tags.map(matchKey))
      return [...tags, ...fresh.filter((tag) => !own.has(matchKey(tag)))]
    })
  }

  _replace() {
    if (!this.old.value.trim()) return this.old.focus()
    this._tell(replaceTag(this.model, this.model.selection, this.old.value.trim(), this.fresh.value))
    this.old.value = this.fresh.value = ''
  }

  _revert() {
    this._tell(this.model.change(this.model.selection, (_, number) => this.model.base[number]))
  }

  copy() {
    this.copied = this.single >= 0 ? this.model.captions[this.single] : [...this.model.countsOf(this.model.selection).values()].map(({ tag }) => tag)
    navigator.clipboard?.writeText(this.copied.join(', ')).catch(() => {})
    this.say(this.t('copied'))
  }

  paste() {
    if (this.copied.length) this._addTags(this.copied)
  }

  /** @param {(tags: string[]) => string[]} change */
  _change(change) {
    this._tell(this.model.change(this.model.selection, change))
  }

  /** @param {number} count */
  _tell(count) {
    this.say(count ? this.t('changedCaptions', { count }) : this.t('nothingChanged'))
  }

  dispose() {
    this.model.removeEventListener('captions', this.onChange)
    this.model.removeEventListener('selection', this.onChange)
  }
}
