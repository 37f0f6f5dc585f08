/**
 * Owns the way from a bare clone to a running command: `node server/cli/bootstrap.mjs demo|test|start|agent|bench|sim|chain [arguments]`.
 * Plain JavaScript without dependencies, for the system's Node from 20 on.
 */
import { spawn } from 'node:child_process'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { BrowserError, dawnEnvironment, ensureBrowser } from './browser.mjs'
import { ensurePackages, ensurePage, localNode, SetupError, withLocalCommands } from './setup.mjs'
import { chosenSuites, runSuites } from './suites.mjs'

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..')
/** @param {string} line */
const say = (line) => console.error(`skein: ${line}`)

/** @type {import('node:child_process').ChildProcess | null} */
let child = null
let interrupted = false

/** A terminal sends Ctrl-C to the child as well; everything else reaches only this process. */
function forwardSignals() {
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
    process.on(signal, () => {
      interrupted = true
      if (!(signal === 'SIGINT' && process.stdin.isTTY)) child?.kill(signal)
    })
  }
}

/**
 * @param {string} node
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<number>} the child's exit code; 128 + n where signal n ended it
 */
function run(node, args, env) {
  return new Promise((resolve, reject) => {
    const started = spawn(node, args, { cwd: process.cwd(), env, stdio: 'inherit' })
    child = started
    started.on('error', reject)
    started.on('exit', (code, signal) => resolve(code ?? (signal === 'SIGINT' ? 130 : signal === 'SIGTERM' ? 143 : 1)))
  })
}

/** @returns {Promise<number>} */
async function main() {
  const [command = '', ...args] = process.argv.slice(2)
  const scripts = /** @type {Record<string, string>} */ ({
    demo: 'server/cli/demo.ts',
    start: 'server/main.ts',
    agent: 'server/cli/agent.mjs',
    bench: 'tests/bench/bench.ts',
    sim: 'tests/sim/sim.ts',
    chain: 'server/cli/chain.ts',
  })
  if (command !== 'test' && !scripts[command]) {
    throw new SetupError(`There is no command “${command}”.`, 'Commands: demo, test, start, agent, bench, sim, chain.')
  }
  if (Number(process.versions.node.split('.')[0]) < 20) {
    throw new SetupError(
      `Node ${process.versions.node} is too old.`,
      'Install Node 20 or newer; Skein brings 24 itself.',
    )
  }
  if (command === 'test') chosenSuites(args)
  ensurePackages(root, say)
  const node = localNode(root)
  /** @type {NodeJS.ProcessEnv} */
  const env = withLocalCommands(root, process.env)
  const onDawnAlone = args.some((arg) => /^(--where=)?dawn$|^--help$/.test(arg))
  if (command === 'demo' || command === 'test' || (command === 'bench' && !onDawnAlone))
    env.SKEIN_BROWSER = ensureBrowser(say)
  if (command !== 'start') Object.assign(env, dawnEnvironment(env))
  if (!['agent', 'bench', 'sim', 'chain'].includes(command)) ensurePage(root, node, say)
  forwardSignals()
  if (command !== 'test')
    return run(node, [path.join(root, .../** @type {string} */ (scripts[command]).split('/')), ...args], env)
  const code = await runSuites(root, node, env, args, (started) => (child = started))
  return interrupted ? 130 : code
}

main().then(
  (code) => process.exit(code),
  (error) => {
    const expected = error instanceof SetupError || error instanceof BrowserError
    console.error(expected ? `\nskein: ${error.message}` : error)
    process.exit(1)
  },
)
