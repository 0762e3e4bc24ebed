// @ts-check
// The spelling of tags, as tagger/tags.py has it: a browser test compares the two.

/** Two spellings of one tag have one key: blind to case, underscore or blank, and escaped parentheses. @param {string} tag */
export function matchKey(tag) {
  return unescaped(tag).replaceAll('_', ' ').toLowerCase().replaceAll('ß', 'ss').split(/\s+/).filter(Boolean).join(' ')
}

/** @param {string} tag */
function unescaped(tag) {
  if (!tag.includes('\\') || /(?<!\\)[()]/.test(tag)) return tag
  return tag.replace(/\\([()])/g, '$1')
}

/** Tags of a text: split at commas (the full-width one too), never at semicolons, which occur in tags. @param {string} text */
export function splitTags(text) {
  return text.split(/[,，\n]/).map((part) => part.trim()).filter(Boolean)
}

/** The first of every tag, order kept. @param {string[]} tags */
export function withoutDuplicates(tags) {
  /** @type {Map<string, string>} */
  const first = new Map()
  for (const tag of tags) {
    const key = matchKey(tag)
    if (key && !first.has(key)) first.set(key, tag)
  }
  return [...first.values()]
}

/** A term of the filter language for this whole tag. @param {string} tag */
export function filterTerm(tag) {
  const text = tag.replace(/[*?]/g, '\\$&').replaceAll('"', '?')
  return /[\s()（）“”]/.test(text) ? `tag:"${text}"` : `tag:${text}`
}

/** Whether a filter has this term as a whole: `tag:smile` is not in `tag:smiley`. @param {string} filter @param {string} term */
export function hasTerm(filter, term) {
  return termAt(term).test(filter)
}

/** A filter with the term, or without it if it had it; the opposite of it (`NOT tag:hat` of `tag:hat`) goes. @param {string} filter @param {string} term */
export function toggledTerm(filter, term) {
  const plain = term.replace(/^NOT /, '')
  const there = [`NOT ${plain}`, plain].find((each) => hasTerm(filter, each))
  const rest = there ? withoutLooseOperators(filter.replace(new RegExp(termAt(there), 'gi'), '$1')) : filter.trim()
  return there === term ? rest : `${rest} ${term}`.trim()
}

/** @param {string} filter of which a term was taken out */
function withoutLooseOperators(filter) {
  const text = filter.replace(/\s+/g, ' ').trim()
  return text.replace(/\b(and|or|not) (?=(and|or)\b)/gi, '').replace(/([(（]) ?(and|or) /gi, '$1').replace(/ (and|or) ?([)）])/gi, '$2').replace(/^(and|or) | (and|or|not)$|^(and|or|not)$/gi, '')
}

/** @param {string} term */
function termAt(term) {
  return new RegExp(`(^|[\\s(（])${term.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}(?=$|[\\s)）])`, 'i')
}
