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
 * @typedef {Readonly<Record<string, Text>>} Texts
 */

/**
 * Code → each language of the pages, its name in itself, and the direction of its script.
 *
 * @satisfies {Record<string, { name: string, dir: 'ltr' | 'rtl' }>}
 */
const LANGUAGES = { en: { name: 'English', dir: 'ltr' }, de: { name: 'Deutsch', dir: 'ltr' }, ja: { name: '日本語', dir: 'ltr' } };

/** @typedef {keyof typeof LANGUAGES} LanguageCode */

/** The language of a person who reads none of them. */
const DEFAULT = 'en';

/** Attribute with the key of a text → the attribute that gets the text. */
const ATTRIBUTES = { 'data-label': 'aria-label', 'data-placeholder': 'placeholder' };

/** @template {string} Key the keys of the texts */
export class PageLanguage {
  #texts;
  #getChoice;
  /** @type {LanguageCode} */
  #code = DEFAULT;

  /**
   * @param {Record<LanguageCode, Texts>} texts of the page
   * @param {() => string} getChoice the code that the person has chosen; another text if there is none
   */
  constructor(texts, getChoice) {
    this.#texts = texts;
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
    return Object.fromEntries(Object.entries(LANGUAGES).map(([code, { name }]) => [code, name]));
  }

  /** @param {string} key @returns {key is Key} */
  has(key) {
    return Object.hasOwn(this.#texts[this.#code], key);
  }

  /**
   * Returns a text with its placeholders replaced: `{name}` by the value `name`.
   *
   * @param {Key} key
   * @param {Values} [values]
   */
  text(key, values = {}) {
    const text = this.#texts[this.#code][key] ?? '';
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

  #select() {
    const wishes = [this.#getChoice(), ...navigator.languages.map((tag) => tag.split('-')[0] ?? '')];
    this.#code = wishes.find(isLanguage) ?? DEFAULT;
    document.documentElement.lang = this.#code;
    document.documentElement.dir = LANGUAGES[this.#code].dir;
    this.apply(document);
  }
}

/** @param {string} code @returns {code is LanguageCode} */
function isLanguage(code) {
  return Object.hasOwn(LANGUAGES, code);
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
