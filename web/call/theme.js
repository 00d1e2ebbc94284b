/**
 * Dark or light colors, by the choice of the person or by the system. The light colors are in one
 * @media block of call.css; a choice replaces the condition of that block.
 */
import { savedSettings } from './saved-settings.js';

/** Theme → the condition for the light colors. @type {Record<string, string>} */
const CONDITIONS = { system: '(prefers-color-scheme: light)', light: 'all', dark: 'not all' };

export function bindTheme() {
  const rules = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules]);
  const light = rules.find((rule) => rule instanceof CSSMediaRule && rule.media.mediaText === CONDITIONS.system);
  const apply = () => {
    if (light instanceof CSSMediaRule) light.media.mediaText = CONDITIONS[savedSettings.get('theme')] ?? 'not all';
  };
  savedSettings.addEventListener('theme', apply);
  apply();
}
