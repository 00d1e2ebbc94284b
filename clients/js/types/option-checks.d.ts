/**
 * Returns the options, with parts of the runtime where they have none.
 *
 * @template {object} Options
 * @template {keyof Options & string} Name
 * @param {Options} options
 * @param {Name[]} names of the parts
 * @returns {Options & { [Part in Name]-?: NonNullable<Options[Part]> }}
 * @throws {SignalingError} `not_supported`
 */
export declare function withRuntime<Options extends object, Name extends keyof Options & string>(options: Options, ...names: Name[]): Options & { [Part in Name]-?: NonNullable<Options[Part]>; };
/**
 * @param {string} field
 * @param {unknown} isGood
 * @throws {SignalingError} `bad_option`
 */
export declare function checkOption(field: string, isGood: unknown): void;
/** Whether this is the address of a server. @param {unknown} url */
export declare function isServer(url: unknown): boolean;
