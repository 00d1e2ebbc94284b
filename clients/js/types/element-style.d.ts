/** The look of a call element. Owns the style sheet; the page changes it with parts and properties. */
/** Gives the style to a shadow root. @param {ShadowRoot} root */
export declare function addStyle(root: ShadowRoot): void;
