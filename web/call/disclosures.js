/**
 * The buttons that show a part of the call: the panels beside the pictures, of which one is open at a
 * time, and the menus above the toolbar. A button names its part with `aria-controls`. The part emits
 * `shown` when it opens. Owns `hidden` of the parts and `aria-expanded` of the buttons.
 */
import { find } from './dom.js';

/** On a narrow screen, the buttons of this group are in the menu. */
const NARROW = '(max-width: 760px)';

/** @param {string} id of a panel or menu @returns {HTMLElement} */
const part = (id) => find(`#${id}`);

/** @param {string} id @returns {HTMLElement} */
const buttonOf = (id) => find(`button[aria-controls="${id}"]`);

/** @returns {HTMLElement[]} */
const openParts = () => [...document.querySelectorAll('.panel:not([hidden]), .menu:not([hidden])')].map((element) => /** @type {HTMLElement} */ (element));

/**
 * Shows or hides a panel or a menu, and hides the others of its kind.
 *
 * @param {string} id
 * @param {boolean} open
 */
export function setOpen(id, open) {
  const element = part(id);
  if (open) for (const other of openParts()) if (other !== element && (isMenu(other) || !isMenu(element))) setOpen(other.id, false);
  if (element.hidden === !open) return;
  element.hidden = !open;
  const button = buttonOf(id);
  if (open && isMenu(element)) element.style.setProperty('--at', `${button.offsetLeft + button.offsetWidth / 2}px`);
  button.setAttribute('aria-expanded', String(open));
  if (open) element.dispatchEvent(new Event('shown'));
}

/** Hides all panels and menus. */
export function closeAll() {
  for (const { id } of openParts()) setOpen(id, false);
}

/** @param {HTMLElement} element */
function isMenu(element) {
  return element.classList.contains('menu');
}

/** Hides a part and returns the focus to its button, or to the menu that holds the button. @param {string} id */
function close(id) {
  setOpen(id, false);
  const button = buttonOf(id);
  (button.closest('.menu') ? buttonOf('more') : button).focus();
}

export function bindDisclosures() {
  const buttons = [...document.querySelectorAll('button[aria-expanded][aria-controls]')];
  for (const button of buttons) {
    const id = button.getAttribute('aria-controls') ?? '';
    button.addEventListener('click', () => {
      setOpen(id, Boolean(part(id).hidden));
      // Without this, the focus is lost with the menu that held the button, and a screen reader does
      // not notice the panel.
      if (!part(id).hidden && !part(id).contains(document.activeElement)) /** @type {HTMLElement | null} */ (part(id).querySelector('h2, button:not([hidden])'))?.focus();
    });
  }
  for (const panel of document.querySelectorAll('.panel')) find('header button', panel).addEventListener('click', () => close(panel.id));
  addEventListener('keydown', (event) => {
    const open = openParts().find(isMenu) ?? openParts()[0];
    if (event.key !== 'Escape' || event.defaultPrevented || !open || document.querySelector('dialog[open]')) return;
    event.preventDefault();
    close(open.id);
  });
  // A click on a tool of a menu, or beside the menu, closes it.
  addEventListener('click', ({ target }) => {
    if (!(target instanceof Element)) return;
    for (const menu of openParts().filter(isMenu)) {
      if (!target.closest(`button[aria-controls="${menu.id}"]`) && (!menu.contains(target) || target.closest('button'))) setOpen(menu.id, false);
    }
  });
  const narrow = matchMedia(NARROW);
  const place = () => {
    if (narrow.matches) part('more').prepend(part('secondary'));
    else buttonOf('chat').before(part('secondary'));
  };
  narrow.addEventListener('change', place);
  place();
}
