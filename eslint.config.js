/** Owns the lint rules, and with them the borders between the rooms. */
import js from '@eslint/js'
import svelte from 'eslint-plugin-svelte'
import globals from 'globals'
import ts from 'typescript-eslint'

/**
 * What a room may not import, as patterns of import specifiers. A file belongs to exactly one border below, because a
 * later `no-restricted-imports` replaces an earlier one.
 */
const to = {
  node: { regex: '^node:', message: 'This code runs in a browser: no node: modules.' },
  server: { regex: '(^|/)server/', message: 'Pages and nodes know the server only through src/protocol.' },
  ui: { regex: '(^|/)ui/|\\.svelte$', message: 'Only src/ui knows the pages.' },
  gpu: { regex: '(^|/)gpu/', message: 'This room never touches the GPU; ask the worker that owns it.' },
  network: {
    regex: '(^|/)(net|volunteer|signalling|control)/|^(peerjs|ws|fastify)$',
    message: 'Arithmetic knows nothing of the network.',
  },
  io: {
    regex: '(^|/)(gpu|net|volunteer|db|control|signalling|datasets|checkpoints|store)/',
    message: 'A pure core is handed what it needs; it does no I/O.',
  },
  localChain: {
    regex: '(^|/)local/localChain|^@acala-network/|^@substrate/',
    message: 'The local chain is for npm run chain and for tests; the server knows chains by URL.',
  },
  ours: { regex: '^\\.\\./', message: 'src/protocol imports nothing of ours.' },
  package: { regex: '^(?!zod$)[^.]', message: 'This room depends on zod and nothing else.' },
}

const pureGlobals = [
  'setTimeout',
  'setInterval',
  'setImmediate',
  'queueMicrotask',
  'crypto',
  'performance',
  'fetch',
  'process',
  'navigator',
  'window',
  'document',
  'localStorage',
  'indexedDB',
  'console',
].map((name) => ({ name, message: 'A pure core has no clock, no randomness and no I/O: pass it in.' }))

const pureProperties = [
  ['Date', 'now'],
  ['performance', 'now'],
  ['Math', 'random'],
].map(([object, property]) => ({ object, property, message: 'Pass the time, or a seeded generator, in.' }))

const pureSyntax = [{ selector: "NewExpression[callee.name='Date'][arguments.length=0]", message: 'Pass the time in.' }]

const networkGlobals = [
  'fetch',
  'WebSocket',
  'EventSource',
  'XMLHttpRequest',
  'RTCPeerConnection',
  'RTCDataChannel',
].map((name) => ({ name, message: 'Arithmetic knows nothing of the network.' }))

const domGlobals = [
  'window',
  'document',
  'navigator',
  'localStorage',
  'indexedDB',
  'fetch',
  'WebSocket',
  'process',
].map((name) => ({ name, message: 'src/protocol runs everywhere: neither DOM nor Node.' }))

/**
 * @param {string[]} files
 * @param {object[]} patterns
 * @param {{ ignores?: string[], rules?: import('eslint').Linter.RulesRecord }} [more]
 * @returns {import('eslint').Linter.Config}
 */
const border = (files, patterns, { ignores = [], rules = {} } = {}) => ({
  files,
  ignores,
  rules: { 'no-restricted-imports': ['error', { patterns }], ...rules },
})

/** @type {import('eslint').Linter.RulesRecord} */
const pureRules = {
  'no-restricted-globals': ['error', ...pureGlobals],
  'no-restricted-properties': ['error', ...pureProperties],
  'no-restricted-syntax': ['error', ...pureSyntax],
}

export default ts.config(
  { ignores: ['node_modules/', 'dist/', 'out/', 'data/', 'test-results/', 'playwright-report/', 'public/'] },
  js.configs.recommended,
  ...ts.configs.recommended,
  ...svelte.configs.recommended,
  ...svelte.configs.prettier,
  {
    languageOptions: { globals: { ...globals.browser, ...globals.node, ...globals.worker } },
    rules: {
      // TypeScript says this better.
      'no-undef': 'off',
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/consistent-type-imports': 'error',
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      'no-console': 'error',
      'max-lines': ['error', { max: 400 }],
    },
  },
  {
    files: ['{src,server,tests}/**/*.ts'],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/await-thenable': 'error',
    },
  },
  {
    files: ['**/*.svelte', '**/*.svelte.ts'],
    languageOptions: { parserOptions: { parser: ts.parser } },
  },
  { files: ['server/cli/**', 'tests/**', '*.{js,ts}'], rules: { 'no-console': 'off' } },

  border(['src/**/*.{ts,svelte}'], [to.node, to.server], {
    ignores: ['src/{protocol,ui,model,codec,gpu,formats,agent,wallet,ledger,audit}/**'],
  }),
  border(['src/agent/**/*.ts'], [to.server, to.ui]),
  border(['src/protocol/**/*.ts'], [to.node, to.ours, to.package], {
    rules: { 'no-restricted-globals': ['error', ...domGlobals] },
  }),
  border(['src/ui/**/*.{ts,svelte}'], [to.node, to.server, to.gpu]),
  border(['src/{model,codec,gpu}/**/*.ts'], [to.node, to.server, to.ui, to.network], {
    rules: { 'no-restricted-globals': ['error', ...networkGlobals] },
  }),
  border(['src/formats/**/*.ts'], [to.node, to.server, to.ui, to.gpu, to.network]),
  border(['src/wallet/**/*.ts'], [to.node, to.server, to.ui, to.gpu]),
  border(['src/ledger/**/*.ts'], [to.node, to.server, to.ui, to.gpu, to.network], { rules: pureRules }),
  border(['src/stage/{machine*,schedule}.ts', 'src/stage/machine/**/*.ts'], [to.node, to.server, to.ui, to.io], {
    rules: pureRules,
  }),
  border(['src/audit/**/*.ts'], [to.node, to.server, to.ui, to.io], { rules: pureRules }),
  border(['server/{orchestrator,audits}/**/*.ts'], [to.node, to.ui, to.io], {
    ignores: ['server/audits/desk/**'],
    rules: pureRules,
  }),
  border(['server/payouts/{payout,plan,refund,verdict,types}.ts'], [to.node, to.ui, to.io], { rules: pureRules }),
  border(
    ['server/**/*.ts'],
    [to.ui, to.gpu, to.localChain, { regex: '/src/(net|volunteer|store)/', message: 'That runs in pages.' }],
    {
      ignores: [
        'server/{orchestrator,audits}/**',
        'server/payouts/{payout,plan,refund,verdict,types}.ts',
        'server/chain/local/**',
        'server/cli/chain.ts',
      ],
    },
  ),
)
