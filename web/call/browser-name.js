/** The name and the version of a browser, without the rest: a complete user agent may name the model of a phone. */

/** @param {string} userAgent @returns {string} empty if it is another browser */
export function browserName(userAgent) {
  const [, name, version] = /\b(Firefox|Edg|OPR)\/(\d+)/.exec(userAgent) ?? /\b(Chrome|HeadlessChrome)\/(\d+)/.exec(userAgent) ?? [];
  if (name) return `${{ Edg: 'Edge', OPR: 'Opera', HeadlessChrome: 'Chrome' }[name] ?? name} ${version}`;
  const [, safari] = /\bVersion\/(\d+)[.\d]* .*Safari/.exec(userAgent) ?? [];
  return safari ? `Safari ${safari}` : '';
}
