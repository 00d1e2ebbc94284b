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
  // From now on the text does not come from the document.
  element.removeAttribute('data-text');
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
