import { supportedBrowsers } from './supported-browsers.js';

/**
 * Rules against mistakes that tsc does not find. Run eslint in the root of the repository, so that
 * web/call is included.
 */
const rules = {
  eqeqeq: 'error',
  'no-console': ['error', { allow: ['warn'] }],
  'no-empty': 'error',
  'no-eval': 'error',
  'no-implied-eval': 'error',
  'no-promise-executor-return': 'off',
  'no-restricted-globals': ['error', { name: 'localStorage', message: 'data of a tab must end with the tab: use sessionStorage' }],
  'no-restricted-properties': ['error', { property: 'innerHTML', message: 'text of a peer must not become markup: use textContent' }, { property: 'outerHTML' }],
  'no-self-compare': 'error',
  'no-unused-vars': ['error', { argsIgnorePattern: '^_', ignoreRestSiblings: true }],
  'no-var': 'error',
  'no-warning-comments': 'error',
  'prefer-const': 'error',
  'require-atomic-updates': 'off',
  'max-lines': ['error', { max: 400, skipComments: true }],
  'max-lines-per-function': ['error', 60],
};

/**
 * For the code that runs in browsers: the syntax and the API that all supported browsers have. tsc
 * knows the methods of JavaScript objects too (`lib` in tsconfig.json).
 */
const inBrowsers = {
  plugins: { signalbox: { rules: { 'supported-browsers': supportedBrowsers } } },
  languageOptions: { ecmaVersion: 2022, sourceType: 'module' },
  rules: {
    'signalbox/supported-browsers': 'error',
    'no-restricted-syntax': [
      'error',
      { selector: 'StaticBlock', message: 'Safari before 16.4 has no static blocks' },
      { selector: 'Literal[regex.pattern=/\\(\\?<[=!]/]', message: 'Safari before 16.4 has no lookbehind' },
    ],
    'no-restricted-properties': [...rules['no-restricted-properties'], { object: 'Date', property: 'now', message: 'the wall clock may jump: a duration uses performance.now()' }],
  },
};

export default [
  { files: ['clients/js/**/*.js', 'web/**/*.js'], rules },
  { files: ['clients/js/src/**/*.js', 'clients/js/examples/**/*.js', 'web/**/*.js'], ...inBrowsers },
  // The other clock may stop while a machine sleeps; here a jump of the wall clock does no harm.
  { files: ['clients/js/src/page-events.js', 'clients/js/src/token-source.js'], rules: { 'no-restricted-properties': rules['no-restricted-properties'] } },
  // The settings belong to the person and not to the tab, and say nothing about a call.
  { files: ['web/call/saved-settings.js'], rules: { 'no-restricted-globals': 'off' } },
  // It must be readable for every browser.
  { files: ['web/call/start-check.js'], languageOptions: { ecmaVersion: 5, sourceType: 'script' }, rules: { 'no-var': 'off' } },
  { files: ['clients/js/test/**/*.js'], rules: { 'max-lines-per-function': 'off' } },
  { ignores: ['**/node_modules/', 'clients/js/types/'] },
];
