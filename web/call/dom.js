/** Helpers for the document, shared by all parts of the page. */

/**
 * @template {Element} T
 * @param {string} selector
 * @param {ParentNode} [root]
 * @returns {T}
 */
export function find(selector, root = document) {
  const element = root.querySelector(selector);
  if (!element) throw new Error(`the page has no element ${selector}`);
  return /** @type {T} */ (element);
}

/**
 * Sets the text only if it differs, because a screen reader reads each change of a live region.
 *
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Copies the first element of a template.
 *
 * @param {string} id
 */
export function cloneTemplate(id) {
  const template = /** @type {HTMLTemplateElement} */ (document.getElementById(id));
  return /** @type {Element} */ (/** @type {DocumentFragment} */ (template.content.cloneNode(true)).firstElementChild);
}

/**
 * Plays a stream. An empty stream is not set, because a video element without a first frame delays
 * the load event of the page.
 *
 * @param {HTMLVideoElement} video
 * @param {MediaStream} stream
 */
export function showStream(video, stream) {
  const source = stream.getTracks().length > 0 ? stream : null;
  if (video.srcObject !== source) video.srcObject = source;
}

/**
 * Connects all microphone and camera buttons of the page with the media.
 *
 * @param {import('./local-media.js').LocalMedia} media
 */
export function bindToggles(media) {
  const labels = { audio: ['Unmute', 'Mute'], video: ['Camera on', 'Camera off'] };
  const icons = { audio: ['#i-mic-off', '#i-mic'], video: ['#i-cam-off', '#i-cam'] };
  for (const button of document.querySelectorAll('button[data-toggle]')) {
    const kind = /** @type {'audio' | 'video'} */ (button.getAttribute('data-toggle'));
    const update = () => {
      const on = Number(media.isOn(kind));
      setText(find('span', button), labels[kind][on] ?? '');
      find('use', button).setAttribute('href', icons[kind][on] ?? '');
      button.toggleAttribute('data-off', !on);
    };
    button.addEventListener('click', () => void media.toggle(kind));
    media.addEventListener('change', update);
    update();
  }
}
