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
  'no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
  'no-var': 'error',
  'no-warning-comments': 'error',
  'prefer-const': 'error',
  'require-atomic-updates': 'off',
  'max-lines': ['error', { max: 400, skipComments: true }],
  'max-lines-per-function': ['error', 60],
};

export default [
  { files: ['clients/js/**/*.js', 'web/**/*.js'], rules },
  { files: ['clients/js/test/**/*.js'], rules: { 'max-lines-per-function': 'off' } },
  { ignores: ['**/node_modules/', 'clients/js/types/'] },
];
