/** Owns `npm test`: the suites, their order, and the few lines that say how each went. */
import { spawn } from 'node:child_process'
import path from 'node:path'
import { SetupError } from './setup.mjs'

/**
 * @typedef {object} Suite
 * @property {string} name
 * @property {string[][]} commands each the file of a package's command under node_modules, then its arguments
 */

/** For files that only compute, each on one core. */
const ALL_CORES = ['--fileParallelism', '--maxWorkers=100%']

/** @type {Suite[]} */
export const suites = [
  {
    name: 'check',
    commands: [
      ['typescript/bin/tsc', '--noEmit'],
      ['svelte-check/bin/svelte-check', '--tsconfig', './tsconfig.json', '--fail-on-warnings'],
    ],
  },
  {
    name: 'lint',
    commands: [
      ['eslint/bin/eslint.js', '.', '--max-warnings', '0'],
      ['prettier/bin/prettier.cjs', '--check', '.'],
    ],
  },
  { name: 'unit', commands: [['vitest/vitest.mjs', 'run', '--project', 'unit']] },
  { name: 'kernels-dawn', commands: [['vitest/vitest.mjs', 'run', '--project', 'kernels-dawn']] },
  { name: 'kernels-chromium', commands: [['vitest/vitest.mjs', 'run', '--project', 'kernels-chromium']] },
  { name: 'chain', commands: [['vitest/vitest.mjs', 'run', '--project', 'chain', ...ALL_CORES]] },
  { name: 'sim', commands: [['vitest/vitest.mjs', 'run', '--project', 'sim', ...ALL_CORES]] },
  { name: 'wan', commands: [['vitest/vitest.mjs', 'run', '--project', 'wan']] },
  { name: 'e2e', commands: [['@playwright/test/cli.js', 'test']] },
]

/**
 * The suites that `npm test`'s arguments name, in their usual order; all where they name none.
 * @param {string[]} args suite names and `--verbose`
 * @throws {SetupError} on a name that no suite has
 */
export function chosenSuites(args) {
  const names = args.filter((arg) => arg !== '--verbose')
  const unknown = names.filter((name) => !suites.some((suite) => suite.name === name))
  if (unknown.length) {
    throw new SetupError(
      `No suite is called ${unknown.join(', ')}.`,
      `There are ${suites.map((suite) => suite.name).join(', ')}; --verbose shows what they print.`,
    )
  }
  return names.length ? suites.filter((suite) => names.includes(suite.name)) : suites
}

/**
 * How many tests an output of Vitest or Playwright says have passed, or null when it says nothing of tests.
 * @param {string} output
 */
export function passedTests(output) {
  // eslint-disable-next-line no-control-regex -- the colours of a terminal
  const plain = output.replace(/\u001b\[[0-9;]*m/g, '')
  const found = /^\s*Tests\s.*?(\d+) passed/m.exec(plain) ?? /^\s*(\d+) passed \(/m.exec(plain)
  return found ? Number(found[1]) : null
}

/**
 * @param {string} root
 * @param {string} node
 * @param {string[]} command
 * @param {NodeJS.ProcessEnv} env
 * @param {boolean} verbose
 * @param {(child: import('node:child_process').ChildProcess | null) => void} running
 * @returns {Promise<{ code: number, output: string }>}
 */
function runCommand(root, node, [file, ...args], env, verbose, running) {
  return new Promise((resolve, reject) => {
    const child = spawn(node, [path.join(root, 'node_modules', .../** @type {string} */ (file).split('/')), ...args], {
      cwd: root,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    running(child)
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8')
      stream.on('data', (text) => {
        output += text
        if (verbose) process.stdout.write(text)
      })
    }
    child.on('error', reject)
    child.on('close', (code) => {
      running(null)
      resolve({ code: code ?? 1, output })
    })
  })
}

/**
 * Runs suites one after another and stops at the first that fails, whose output it prints.
 * @param {string} root
 * @param {string} node
 * @param {NodeJS.ProcessEnv} env
 * @param {string[]} args suite names and `--verbose`
 * @param {(child: import('node:child_process').ChildProcess | null) => void} running told of the child under way
 * @returns {Promise<number>} the exit code
 */
export async function runSuites(root, node, env, args, running) {
  const verbose = args.includes('--verbose')
  const chosen = chosenSuites(args)
  let passed = 0
  for (const suite of chosen) {
    const startedAt = performance.now()
    const seconds = () => `${((performance.now() - startedAt) / 1000).toFixed(1)} s`
    if (process.stdout.isTTY && !verbose) process.stdout.write(`… ${suite.name}\r`)
    let tests = 0
    for (const command of suite.commands) {
      const { code, output } = await runCommand(root, node, command, env, verbose, running)
      if (code !== 0) {
        if (!verbose) process.stdout.write(`${output.trimEnd()}\n`)
        console.log(`✗ ${suite.name} failed after ${seconds()} (${command[0]}, exit code ${code})`)
        console.log(`${passed} passed, 1 failed`)
        return 1
      }
      tests += passedTests(output) ?? 0
    }
    passed++
    console.log(`✓ ${suite.name.padEnd(17)} ${(tests ? `${tests} tests` : '').padStart(10)}  ${seconds().padStart(8)}`)
  }
  console.log(`${passed} passed, 0 failed`)
  return 0
}
