/** Owns the build of the page, the development proxy and the projects of Vitest. */
import { fileURLToPath } from 'node:url'
import { svelte } from '@sveltejs/vite-plugin-svelte'
import { playwright } from '@vitest/browser-playwright'
import { defineConfig } from 'vitest/config'
import { browserArgs, dawnEnvironment, findBrowser } from './server/cli/browser.mjs'

const server = process.env.SKEIN_URL ?? `http://127.0.0.1:${process.env.SKEIN_PORT ?? 8080}`
const proxy = Object.fromEntries(
  ['/api', '/control', '/peer', '/relay', '/metrics'].map((path) => [path, { target: server, ws: true }]),
)

// The forks that load Dawn inherit this; a library path counts only when it is set before a process starts.
if (process.env.VITEST) Object.assign(process.env, dawnEnvironment())

/** Wallets need the codec of addresses alone of a package twenty times its size; tests compare the two. */
const alias = process.env.VITEST
  ? []
  : [{ find: /^@polkadot\/util-crypto$/, replacement: fileURLToPath(new URL('src/wallet/ss58.ts', import.meta.url)) }]

export default defineConfig({
  plugins: [svelte({ configFile: false })],
  resolve: { alias },
  worker: { format: 'es' },
  server: { proxy },
  build: { target: 'es2023', sourcemap: true },
  test: {
    // Two cores: files one after another keep software rendering from starving a file into its time limit.
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          environment: 'node',
          pool: 'forks',
          include: ['tests/{unit,protocol,golden}/**/*.test.ts'],
        },
      },
      {
        extends: true,
        test: { name: 'sim', environment: 'node', pool: 'forks', include: ['tests/sim/**/*.test.ts'] },
      },
      {
        extends: true,
        // A block of the runtime takes a quarter of a second of a free core, and a history has dozens.
        test: {
          name: 'chain',
          environment: 'node',
          pool: 'forks',
          testTimeout: 300_000,
          include: ['tests/chain/**/*.test.ts'],
        },
      },
      {
        extends: true,
        // Hosts, browsers and a network in namespaces; where none can be made, every test says so and is skipped.
        test: { name: 'wan', environment: 'node', pool: 'forks', include: ['tests/wan/**/*.test.ts'] },
      },
      {
        extends: true,
        test: { name: 'kernels-dawn', environment: 'node', pool: 'forks', include: ['tests/kernels/**/*.test.ts'] },
      },
      {
        extends: true,
        // Found only while tests run, it would reload the page under them.
        optimizeDeps: { include: ['zod'] },
        test: {
          name: 'kernels-chromium',
          include: ['tests/kernels/**/*.test.ts'],
          browser: {
            enabled: true,
            headless: true,
            screenshotFailures: false,
            provider: playwright({
              launchOptions: { executablePath: findBrowser() ?? undefined, args: browserArgs() },
            }),
            instances: [{ browser: 'chromium' }],
          },
        },
      },
    ],
  },
})
