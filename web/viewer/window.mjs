// @ts-check
// The viewer full screen, over the page.
import { h } from '../editor/dom.mjs'
import { Viewer } from './viewer.mjs'

/** @param {import('./model.mjs').Model} model @param {import('./text.mjs').Translate} t @param {{use: () => void, left: () => void}} outside `left` is called when it closes */
export function openFull(model, t, outside) {
  const dialog = h('dialog', { class: 'athanor-compare', 'aria-label': t('title'), style: 'padding: 0; border: 0; background: none; width: 100vw; height: 100vh; max-width: none; max-height: none; overflow: hidden' })
  const viewer = new Viewer(model, t, { use: outside.use, full: () => dialog.close(), isFull: true })
  viewer.element.style.cssText = 'display: block; width: 100%; height: 100%'
  // The page's undo looks at window level, before anything here can stop it, and spares text fields; this is how it knows them.
  Object.assign(viewer.element, { type: 'textarea' })
  dialog.append(viewer.element)
  dialog.addEventListener('close', () => {
    viewer.dispose()
    dialog.remove()
    outside.left()
  })
  dialog.addEventListener('cancel', (event) => event.preventDefault())
  for (const type of ['keydown', 'keyup', 'paste', 'copy', 'cut', 'wheel', 'pointerdown', 'contextmenu']) dialog.addEventListener(type, (event) => event.stopPropagation())
  document.body.append(dialog)
  dialog.showModal()
  viewer.focus()
  return dialog
}
