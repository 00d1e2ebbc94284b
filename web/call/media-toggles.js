/** The microphone and camera buttons of the page. */
import { find } from './dom.js';
import { showText } from './texts.js';

/**
 * Connects the microphone and camera buttons of a document with the media.
 *
 * @param {import('./local-media.js').LocalMedia} media
 * @param {ParentNode} [root]
 * @param {AbortSignal} [signal] ends that
 */
export function bindToggles(media, root = document, signal) {
  const labels = /** @type {const} */ ({ audio: ['toggle.unmute', 'toggle.mute'], video: ['toggle.camera_on', 'toggle.camera_off'] });
  const icons = { audio: ['#i-mic-off', '#i-mic'], video: ['#i-cam-off', '#i-cam'] };
  for (const button of root.querySelectorAll('button[data-toggle]')) {
    const kind = /** @type {'audio' | 'video'} */ (button.getAttribute('data-toggle'));
    const update = () => {
      const on = media.isWanted(kind) ? 1 : 0;
      showText(find('span', button), labels[kind][on]);
      find('use', button).setAttribute('href', icons[kind][on] ?? '');
      button.toggleAttribute('data-off', on === 0);
    };
    button.addEventListener('click', () => void media.toggle(kind));
    media.addEventListener('change', update, { signal });
    update();
  }
}
