// @ts-check

/**
 * An element: h('button', { class: 'x', onclick: f, title: 'y' }, 'text', child). Functions become properties, the rest attributes.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} name
 * @param {Record<string, any>} [attributes]
 * @param {...(Node | string | null | undefined | false)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name)
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element[key] = value
    else if (value === true) element.setAttribute(key, '')
    else if (value !== false && value != null) element.setAttribute(key, String(value))
  }
  element.append(.../** @type {(Node | string)[]} */ (children.filter((child) => child != null && child !== false)))
  return element
}

const COLOURS = { 0: 'general', 1: 'artist', 3: 'copyright', 4: 'character', 5: 'meta', 9: 'rating', 10: 'meta', 11: 'meta', 12: 'meta' }

/** The class of a tag's colour. @param {number} category a number of Danbooru, -1 if unknown */
export function categoryClass(category) {
  return `cat-${COLOURS[/** @type {keyof typeof COLOURS} */ (category)] ?? 'unknown'}`
}

/** 12345 as 12.3k. @param {number} count */
export function short(count) {
  if (count < 1000) return String(count)
  const [value, unit] = count < 1e6 ? [count / 1e3, 'k'] : [count / 1e6, 'M']
  return `${value < 10 ? value.toFixed(1) : Math.round(value)}${unit}`
}

/** Calls `work` when nothing has asked for it for `ms`. @param {number} ms @param {() => void} work */
export function debounced(ms, work) {
  let timer = 0
  return () => {
    clearTimeout(timer)
    timer = window.setTimeout(work, ms)
  }
}
