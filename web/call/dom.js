/** The few things every part of the page does with the document. */

/**
 * @template {Element} T
 * @param {string} selector
 * @param {ParentNode} [root]
 * @returns {T}
 */
export function find(selector, root = document) {
  const element = root.querySelector(selector);
  if (!element) throw new Error(`the page lacks ${selector}`);
  return /** @type {T} */ (element);
}

/** Sets text only when it changes: a live region speaks at every change. @param {Element} element @param {string} text */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * A copy of what a template holds.
 *
 * @param {string} id
 */
export function copyOf(id) {
  const template = /** @type {HTMLTemplateElement} */ (document.getElementById(id));
  return /** @type {Element} */ (/** @type {DocumentFragment} */ (template.content.cloneNode(true)).firstElementChild);
}

/**
 * Plays a stream, or nothing while it is empty: an element that waits for its first picture keeps the page loading.
 *
 * @param {HTMLVideoElement} video
 * @param {MediaStream} stream
 */
export function showStream(video, stream) {
  const source = stream.getTracks().length > 0 ? stream : null;
  if (video.srcObject !== source) video.srcObject = source;
}

/**
 * Makes every mute and camera button on the page follow the media.
 *
 * @param {import('./media.js').Media} media
 */
export function bindToggles(media) {
  const words = { audio: ['Unmute', 'Mute'], video: ['Camera on', 'Camera off'] };
  const icons = { audio: ['#i-mic-off', '#i-mic'], video: ['#i-cam-off', '#i-cam'] };
  for (const button of document.querySelectorAll('button[data-toggle]')) {
    const kind = /** @type {'audio' | 'video'} */ (button.getAttribute('data-toggle'));
    const show = () => {
      const on = Number(media.isOn(kind));
      say(find('span', button), words[kind][on] ?? '');
      find('use', button).setAttribute('href', icons[kind][on] ?? '');
      button.toggleAttribute('data-off', !on);
    };
    button.addEventListener('click', () => void media.toggle(kind));
    media.addEventListener('change', show);
    show();
  }
}
