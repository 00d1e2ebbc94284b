/**
 * An ESLint rule: the code uses only global objects, and members of global objects, that all supported
 * browsers have, by the browser compatibility data of MDN. The type of any other object is not known
 * here; tsc checks the methods of JavaScript objects (`lib` in tsconfig.json).
 */
import { createRequire } from 'node:module';

const { api, javascript } = createRequire(import.meta.url)('@mdn/browser-compat-data');

/** Browser → its oldest supported version. README.md and web/call name the same ones. */
export const SUPPORTED_BROWSERS = { chrome: '109', edge: '109', firefox: '115', safari: '15.4', safari_ios: '15.4' };

/** Global object → its interface; other global objects have the name of their interface. */
const INSTANCES = { document: 'Document', navigator: 'Navigator', location: 'Location', history: 'History', crypto: 'Crypto', performance: 'Performance', sessionStorage: 'Storage', globalThis: 'Window', window: 'Window' };

const interfaceOf = (name) => api[INSTANCES[name] ?? name] ?? javascript.builtins[name];

const number = (version) => version.replace('≤', '').split('.').reduce((sum, part, n) => sum + Number(part) / 1000 ** n, 0);

/** The browsers that lack a feature. @param {{ __compat: { support: Record<string, any> } }} feature */
export function lackingBrowsers({ __compat: { support } }) {
  const isThere = ({ version_added: added, version_removed: removed, flags, prefix }, oldest) =>
    typeof added === 'string' && !removed && !flags && !prefix && number(added) <= number(oldest);
  return Object.entries(SUPPORTED_BROWSERS).flatMap(([browser, oldest]) => ([support[browser] ?? []].flat().some((one) => isThere(one, oldest)) ? [] : `${browser} ${oldest}`));
}

export const supportedBrowsers = {
  create(context) {
    const check = (node, feature) => {
      const lacking = feature?.__compat ? lackingBrowsers(feature) : [];
      if (lacking.length > 0) context.report({ node, message: `${context.sourceCode.getText(node)} is missing in ${lacking.join(', ')}` });
    };
    return {
      MemberExpression(node) {
        const { object, property, computed } = node;
        // After `?.` the code expects an absence.
        if (computed || node.optional || object.type !== 'Identifier' || property.type !== 'Identifier') return;
        const features = interfaceOf(object.name) ?? {};
        check(node, features[`${property.name}_static`] ?? features[property.name] ?? (features === api.Window ? api[property.name] : undefined));
      },
      'Program:exit'(program) {
        for (const { identifier } of context.sourceCode.getScope(program).through) check(identifier, interfaceOf(identifier.name) ?? api.Window[identifier.name]);
      },
    };
  },
};
