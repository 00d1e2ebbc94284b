/** Few rules: each stands for a mistake that tsc does not see. Run from the root of the repository, so that web/call is under it. */
const rules = {
  eqeqeq: 'error',
  'no-console': ['error', { allow: ['warn'] }],
  'no-empty': 'error',
  'no-eval': 'error',
  'no-implied-eval': 'error',
  'no-promise-executor-return': 'off',
  'no-restricted-globals': ['error', { name: 'localStorage', message: 'what a tab knows ends with the tab' }],
  'no-restricted-properties': ['error', { property: 'innerHTML', message: 'what a peer sent is text' }, { property: 'outerHTML' }],
  'no-self-compare': 'error',
  'no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
  'no-var': 'error',
  'no-warning-comments': 'error',
  'prefer-const': 'error',
  'require-atomic-updates': 'off',
  'max-lines': ['error', 400],
  'max-lines-per-function': ['error', 60],
};

export default [
  { files: ['clients/js/**/*.js', 'web/**/*.js'], rules },
  { files: ['clients/js/test/**/*.js'], rules: { 'max-lines-per-function': 'off' } },
  { ignores: ['**/node_modules/', 'clients/js/types/'] },
];
