// @ts-check
// Two pictures without their names: which one is better? And how all stand after the votes.
import { fetchPair, fetchRanking, sendVote } from '../api.js'
import { h } from '../editor/dom.mjs'
import { Pane, zoomable } from './pane.mjs'

/** @typedef {{value: number, label: string, share: number, low: number, high: number, votes: number, won: number}} Rank */
/** @typedef {{axis: string, places: Rank[], certainty: number, decided: boolean, votes: number, all: number}} Standing */

export class Blind {
  /** @param {import('./model.mjs').Model} model @param {import('./text.mjs').Translate} t @param {(event: WheelEvent) => boolean} wantsWheel */
  constructor(model, t, wantsWheel) {
    this.model = model
    this.t = t
    /** @type {{first: number, second: number, place: import('./view.mjs').Place} | null} */
    this.pair = null
    /** @type {Standing | undefined} */
    this.standing = undefined
    this.asked = ''
    this.ticket = this.numSeen = 0
    this.isBusy = false
    this.left = new Pane(model, t)
    this.right = new Pane(model, t)
    this.panes = h('div', { class: 'panes' }, this.left.element, this.right.element)
    const button = (/** @type {import('./text.mjs').TextKey} */ text, /** @type {() => void} */ onclick, kind = 'vote', title = '') => h('button', { class: kind, title, onclick }, t(text))
    this.judged = h('select', { 'aria-label': t('judged'), title: t('judged'), onchange: () => model.change({ judged: /** @type {any} */ (this.judged.value) }) })
    this.count = h('span', { class: 'hint' })
    this.problem = h('div', { class: 'pane-message', hidden: true })
    this.common = h('div', { class: 'caption' })
    this.votes = h('div', { class: 'votes' }, button('leftBetter', () => this.vote('first')), button('tie', () => this.vote('tie')), button('rightBetter', () => this.vote('second')))
    this.table = h('div', { class: 'ranking', hidden: true })
    this.toggle = button('showRanking', () => this.showRanking(this.table.hidden), 'quiet')
    this.element = h('div', { class: 'blind' },
      h('div', { class: 'blind-head' }, h('strong', {}, t('better')), this.judged, this.count, h('span', { class: 'grow' }),
        button('skip', () => this.next(), 'quiet', t('skipHint')), button('undoVote', () => this.vote('back'), 'quiet', t('undoVoteHint')), this.toggle),
      h('div', { class: 'blind-body' }, this.panes, this.problem, this.common, this.table), this.votes)
    zoomable(this.panes, () => [this.left, this.right], model, { wantsWheel })
    this.sizes = new ResizeObserver(() => this._lay())
    this.sizes.observe(this.panes)
  }

  get axis() {
    return this.model.view.judged || this.model.epochAxis
  }

  draw() {
    const { model, t } = this, { sheet } = model
    if (!sheet) return
    const key = `${sheet.sheet}|${this.axis}`
    if (key !== this.asked) {
      this.asked = key
      const names = /** @type {const} */ ({ x: 'axisX', y: 'axisY', z: 'axisZ' })
      const axes = /** @type {const} */ (['y', 'x', 'z']).filter((axis) => model.count(axis) > 1 || axis === this.axis)
      this.judged.replaceChildren(...axes.map((axis) => h('option', { value: axis }, t(names[axis]))))
      this.judged.value = this.axis
      this.showRanking(false)
      this.next()
      this._ask(() => fetchRanking(sheet.sheet, this.axis))
    } else if (!this.pair && model.numDrawn !== this.numSeen) this.next()
    this._lay()
  }

  /** Asks for everything anew at the next drawing: another window may have voted. */
  forget() {
    this.asked = ''
  }

  /** Asks about another pair. */
  async next() {
    const { sheet } = this.model, ticket = ++this.ticket
    if (!sheet) return
    this.numSeen = this.model.numDrawn
    const asked = await fetchPair(sheet.sheet, this.axis).catch((error) => {
      this.model.say(error instanceof Error ? error.message : String(error))
      return { pair: null }
    })
    if (ticket !== this.ticket) return
    this.pair = asked.pair
    this._showPair()
  }

  /** @param {'first' | 'second' | 'tie' | 'back'} winner */
  async vote(winner) {
    const { sheet } = this.model, { pair } = this
    if (!sheet || this.isBusy || !this.table.hidden || (!pair && winner !== 'back')) return
    this.isBusy = true
    await this._ask(() => sendVote(sheet.sheet, this.axis, winner, pair?.first ?? 0, pair?.second ?? 0))
    await this.next()
    this.isBusy = false
  }

  /** @param {boolean} isWanted */
  showRanking(isWanted) {
    this.table.hidden = !isWanted
    this.panes.hidden = this.votes.hidden = isWanted
    this.toggle.textContent = this.t(isWanted ? 'hideRanking' : 'showRanking')
    this._showPair()
    this._drawRanking()
  }

  _showPair() {
    const { pair, model } = this, isRanking = !this.table.hidden
    this.problem.hidden = Boolean(pair) || isRanking
    this.problem.textContent = this.t('noPair')
    this.common.hidden = !pair || isRanking
    for (const button of this.votes.querySelectorAll('button')) button.disabled = !pair
    this.panes.classList.toggle('is-empty', !pair)
    if (!pair) return
    this.left.show(pair.first, this.t('leftBetter'))
    this.right.show(pair.second, this.t('rightBetter'))
    const [page, row, column] = pair.place, { axis } = this, { sheet } = model
    const rest = [axis !== 'y' && sheet?.rows[row], axis !== 'x' && sheet?.columns[column], axis !== 'z' && sheet?.pages[page]].filter(Boolean)
    this.common.textContent = rest.length ? this.t('sameAll', { facts: rest.join(' · ') }) : ''
    this._lay()
  }

  _lay() {
    this.left.lay()
    this.right.lay()
  }

  /** @param {() => Promise<Standing>} ask */
  async _ask(ask) {
    try {
      this.standing = await ask()
      this.count.textContent = this.t('votes', { count: this.standing.votes })
      this._drawRanking()
    } catch (error) {
      this.model.say(error instanceof Error ? error.message : String(error))
    }
  }

  _drawRanking() {
    const { standing, t } = this
    if (!standing || this.table.hidden) return
    const percent = (/** @type {number} */ share) => Math.round(100 * share)
    const verdict = !standing.votes ? t('noVotes') : standing.decided ? t('decided', { certainty: Math.floor(100 * standing.certainty), label: standing.places[0].label }) : t('undecided')
    this.table.replaceChildren(h('h3', {}, t('ranking')), h('p', { class: standing.decided ? 'verdict' : 'hint' }, verdict),
      h('div', { class: 'ranks' }, h('span'), h('span', { class: 'hint' }, t('rankShare')), h('span', { class: 'hint' }, t('rankVotes')),
        ...standing.places.flatMap(({ label, share, low, high, votes, value }) => [
          h('button', { class: 'rank-name', title: label, onclick: () => this._visit(value) }, label),
          h('div', { class: 'rank-bar', title: t('rankInterval', { share: percent(share), low: percent(low), high: percent(high) }) },
            h('div', { class: 'rank-range', style: `left: ${100 * low}%; width: ${100 * (high - low)}%` }), h('div', { class: 'rank-mean', style: `left: ${100 * share}%` }),
            h('span', {}, `${percent(share)} %  (${percent(low)}–${percent(high)})`)),
          h('span', { class: 'num' }, String(votes)),
        ])))
  }

  /** Shows a value of the judged axis. @param {number} value */
  _visit(value) {
    const { model } = this, at = /** @type {import('./view.mjs').Place} */ ([...model.view.at])
    at[{ z: 0, y: 1, x: 2 }[this.axis]] = value
    model.change({ at, mode: 'large' })
  }

  dispose() {
    this.sizes.disconnect()
  }
}
