/**
 * Owns what has to be in place before a command can run: the packages, the Node that comes with them, the built page.
 * Plain JavaScript without dependencies: the system's Node runs it before anything is installed.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, lstatSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'

/** A set-up step that failed; its message holds the remedy and is printed without a stack. */
export class SetupError extends Error {
  /**
   * @param {string} message
   * @param {string} remedy
   */
  constructor(message, remedy) {
    super(`${message}\n  ${remedy}`)
    this.name = 'SetupError'
  }
}

/** What the built page is made from, relative to the repository's root. */
const pageSources = ['src', 'shaders', 'public', 'index.html', 'vite.config.ts', 'package-lock.json']
const stampName = '.source-hash'

/**
 * The environment with the repository's own commands first on the PATH.
 * @param {string} root
 * @param {NodeJS.ProcessEnv} env
 */
export function withLocalCommands(root, env) {
  return { ...env, PATH: [path.join(root, 'node_modules', '.bin'), env.PATH].filter(Boolean).join(path.delimiter) }
}

/**
 * The Node 24 that comes with the packages and runs everything else.
 * @param {string} root
 */
export const localNode = (root) =>
  path.join(root, 'node_modules', 'node', 'bin', process.platform === 'win32' ? 'node.exe' : 'node')

/**
 * True when `npm ci` has never finished here, or the lockfile changed since.
 * @param {string} root
 */
export function needsInstall(root) {
  const installed = path.join(root, 'node_modules', '.package-lock.json')
  if (!existsSync(installed)) return true
  // npm writes the list before the scripts run: an install cut short in between has the list and no Node.
  if (!existsSync(localNode(root))) return true
  return statSync(path.join(root, 'package-lock.json')).mtimeMs > statSync(installed).mtimeMs
}

/**
 * Runs `npm ci` where it is needed.
 * @param {string} root
 * @param {(line: string) => void} say
 * @throws {SetupError}
 */
export function ensurePackages(root, say) {
  if (!needsInstall(root)) return
  // npm would empty the folder behind the link, which is somebody else's, and put one of its own in the link's place.
  if (lstatSync(path.join(root, 'node_modules'), { throwIfNoEntry: false })?.isSymbolicLink()) {
    throw new SetupError(
      'The packages need installing, and node_modules is a link to another folder.',
      'Remove the link, or install where it points to.',
    )
  }
  say('Installing packages (npm ci); this takes a minute or two the first time.')
  // npm must not run on the Node that it is about to delete.
  const local = path.join(root, 'node_modules', '.bin')
  const PATH = (process.env.PATH ?? '').split(path.delimiter).filter((folder) => path.resolve(folder) !== local)
  /** @param {string[]} args */
  const npm = (...args) =>
    spawnSync('npm', [...args, '--no-audit', '--no-fund', '--loglevel=error'], {
      cwd: root,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, PATH: PATH.join(path.delimiter) },
      shell: process.platform === 'win32',
    }).status === 0
  // Install scripts run only where one is needed: npm would start a compiler for better-sqlite3, which brings its
  // binaries along, and fail on a machine that has none.
  const done =
    npm('ci', '--include=dev', '--ignore-scripts') && npm('rebuild', '--ignore-scripts=false', 'node', 'webgpu')
  if (!done || needsInstall(root)) {
    throw new SetupError(
      'Installing packages failed.',
      'Read npm’s message above; a registry out of reach is the usual cause.',
    )
  }
}

/**
 * Files under `folder`, sorted, relative to `root`.
 * @param {string} root
 * @param {string} relative
 * @returns {string[]}
 */
function filesUnder(root, relative) {
  const full = path.join(root, relative)
  if (!existsSync(full)) return []
  if (statSync(full).isFile()) return [relative]
  return readdirSync(full, { withFileTypes: true })
    .map((entry) => path.join(relative, entry.name))
    .sort()
    .flatMap((name) => filesUnder(root, name))
}

/**
 * SHA-256 over names and contents of everything the page is built from.
 * @param {string} root
 */
export function sourceHash(root) {
  const hash = createHash('sha256')
  for (const file of pageSources.flatMap((source) => filesUnder(root, source))) {
    const bytes = readFileSync(path.join(root, file))
    hash.update(`${file}\0${bytes.length}\0`).update(bytes)
  }
  return hash.digest('hex')
}

/**
 * True when `dist` holds no page, or one built from other sources.
 * @param {string} root
 */
export function needsBuild(root) {
  const stamp = path.join(root, 'dist', stampName)
  if (!existsSync(path.join(root, 'dist', 'index.html')) || !existsSync(stamp)) return true
  return readFileSync(stamp, 'utf8') !== sourceHash(root)
}

/**
 * Builds the page with Vite where it is missing or stale.
 * @param {string} root
 * @param {string} node
 * @param {(line: string) => void} say
 * @throws {SetupError}
 */
export function ensurePage(root, node, say) {
  if (!needsBuild(root)) return
  say('Building the page (vite build).')
  const hash = sourceHash(root)
  const vite = path.join(root, 'node_modules', 'vite', 'bin', 'vite.js')
  const result = spawnSync(node, [vite, 'build', '--logLevel', 'warn'], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  if (result.status !== 0) {
    throw new SetupError(`${result.stdout}${result.stderr}\nvite build failed.`, 'Its message above says where.')
  }
  // The hash from before the build: a source changed meanwhile makes the next command build again.
  writeFileSync(path.join(root, 'dist', stampName), hash)
}
