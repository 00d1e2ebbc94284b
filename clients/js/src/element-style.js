/** The look of a call element. Owns the style sheet; the page changes it with parts and properties. */

const CSS = `
:host { display: block; color: var(--signalbox-color, #16191d); background: var(--signalbox-background, transparent); font: 16px/1.4 system-ui, sans-serif; }
:host([hidden]), [hidden] { display: none; }
[part~=tiles] { display: grid; gap: var(--signalbox-gap, 0.5rem); grid-template-columns: repeat(auto-fit, minmax(min(100%, var(--signalbox-tile-width, 16rem)), 1fr)); }
[part~=tile] { position: relative; display: grid; place-items: center; width: 100%; max-height: var(--signalbox-tile-height, 60vh); margin: 0; aspect-ratio: 16 / 9; overflow: hidden; color: #fff; background: var(--signalbox-tile-background, #24282e); border-radius: var(--signalbox-radius, 0.5rem); }
[part~=tile][data-away] { opacity: 0.6; }
[part~=initial] { font-size: 3rem; text-transform: uppercase; }
[part~=video] { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: cover; }
[part~=self] [part~=video] { transform: scaleX(-1); }
[part~=screen] [part~=video] { object-fit: contain; background: #000; }
[part~=name] { position: absolute; inset: auto auto 0.5rem 0.5rem; max-width: calc(100% - 1rem); box-sizing: border-box; padding: 0 0.5rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; background: #000000b3; border-radius: 0.25rem; }
[part~=status] { margin: 0.5rem 0; }
[part~=status]:empty { display: none; }
[part~=controls] { display: flex; flex-wrap: wrap; gap: var(--signalbox-gap, 0.5rem); margin-top: 0.5rem; }
[part~=button] { min-height: 2.75rem; padding: 0 1rem; font: inherit; color: #fff; background: var(--signalbox-accent, #1f5fbf); border: 0; border-radius: var(--signalbox-radius, 0.5rem); cursor: pointer; }
[part~=button][aria-pressed=false], [part~=button]:disabled { background: #5b626b; }
[part~=button]:disabled { cursor: default; }
[part~=leave] { background: #b3261e; }
[part~=button]:focus-visible { outline: 3px solid var(--signalbox-focus, #e0a100); outline-offset: 2px; }
`;

/** Gives the style to a shadow root. @param {ShadowRoot} root */
export function addStyle(root) {
  try {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(CSS);
    root.adoptedStyleSheets = [sheet];
  } catch {
    // Safari before 16.4. There a strict policy for styles must allow inline styles.
    root.append(Object.assign(document.createElement('style'), { textContent: CSS }));
  }
}
