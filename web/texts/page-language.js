/**
 * The language of a page: chooses it, gives its texts, and writes them into the document. Owns `lang`
 * and `dir` of the document. The texts are in the other files of this folder, one for each page and
 * language. The event `languagechange` of the window reports another language: the browser emits it,
 * and so does the page after a choice of the person.
 */

/**
 * @typedef {Record<string, string | number>} Values
 * @typedef {string | (Partial<Record<Intl.LDMLPluralRule, string>> & { other: string })} Text a text
 *   with a number has one form for each plural of its language; the value `count` chooses the form
 * @typedef {{ name: string, dir: 'ltr' | 'rtl', texts: Readonly<Record<string, Text>> }} Language
 *   `name`: in the language itself
 */

/** Attribute with the key of a text → the attribute that gets the text. */
const ATTRIBUTES = { 'data-label': 'aria-label', 'data-placeholder': 'placeholder' };

/** @template {string} Key the keys of the texts */
export class PageLanguage {
  #languages;
  #getChoice;
  #code = '';

  /**
   * @param {Record<string, Language>} languages by their code, such as `de`; the first one is used if
   *   the person reads none of them
   * @param {() => string} getChoice the code that the person has chosen; another text if there is none
   */
  constructor(languages, getChoice) {
    this.#languages = languages;
    this.#getChoice = getChoice;
    this.#select();
    addEventListener('languagechange', () => this.#select());
  }

  /** The code of the current language. */
  get code() {
    return this.#code;
  }

  /** Code → the name of each language in itself. */
  get names() {
    return Object.fromEntries(Object.entries(this.#languages).map(([code, { name }]) => [code, name]));
  }

  /** @param {string} key @returns {key is Key} */
  has(key) {
    return Object.hasOwn(this.#current.texts, key);
  }

  /**
   * Returns a text with its placeholders replaced: `{name}` by the value `name`.
   *
   * @param {Key} key
   * @param {Values} [values]
   */
  text(key, values = {}) {
    const text = this.#current.texts[key] ?? '';
    return formOf(text, values.count, this.#code).replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ''));
  }

  /** Writes the texts into a part of the document, also into its templates. @param {ParentNode} root */
  apply(root) {
    for (const element of root.querySelectorAll('[data-text]')) {
      const text = this.text(/** @type {Key} */ (element.getAttribute('data-text')));
      if (element.textContent !== text) element.textContent = text;
    }
    for (const [source, target] of Object.entries(ATTRIBUTES)) {
      for (const element of root.querySelectorAll(`[${source}]`)) element.setAttribute(target, this.text(/** @type {Key} */ (element.getAttribute(source))));
    }
    for (const template of root.querySelectorAll('template')) this.apply(template.content);
  }

  get #current() {
    return /** @type {Language} */ (this.#languages[this.#code]);
  }

  #select() {
    const wishes = [this.#getChoice(), ...navigator.languages.map((tag) => tag.split('-')[0] ?? '')];
    this.#code = wishes.find((code) => Object.hasOwn(this.#languages, code)) ?? Object.keys(this.#languages)[0] ?? '';
    document.documentElement.lang = this.#code;
    document.documentElement.dir = this.#current.dir;
    this.apply(document);
  }
}

/**
 * @param {Text} text
 * @param {unknown} count
 * @param {string} code of the language
 */
function formOf(text, count, code) {
  if (typeof text === 'string') return text;
  return text[new Intl.PluralRules(code).select(Number(count))] ?? text.other;
}
