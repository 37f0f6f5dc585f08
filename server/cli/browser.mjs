/**
 * Owns the finding and installing of a Chromium, and the environment in which Dawn finds that Chromium's SwiftShader.
 * Plain JavaScript without dependencies: the system's Node runs it before anything is installed.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, realpathSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'

const installedNames = ['chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome', 'chrome']

const installedPaths = {
  darwin: [
    '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
    '/Applications/Chromium.app/Contents/MacOS/Chromium',
  ],
  win32: [
    'C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe',
    'C:\\Program Files (x86)\\Google\\Chrome\\Application\\chrome.exe',
  ],
}

const remedy = [
  'Install Chromium or Chrome (Debian: `apt-get install chromium`), or name one: SKEIN_BROWSER=/path/to/chromium.',
  'Where downloads are allowed, `npx playwright install --with-deps chromium` works as well.',
].join('\n  ')

/** A finding that a person has to act on; printed without a stack. */
export class BrowserError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(`${message}\n  ${remedy}`)
    this.name = 'BrowserError'
  }
}

/** @param {string} file */
const isFile = (file) => existsSync(file) && statSync(file).isFile()

/**
 * The first of `names` that stands on the PATH, or null.
 * @param {string[]} names
 * @param {string} searchPath
 * @returns {string | null}
 */
export function onPath(names, searchPath = process.env.PATH ?? '') {
  for (const name of names) {
    for (const folder of searchPath.split(path.delimiter)) {
      if (folder && isFile(path.join(folder, name))) return path.join(folder, name)
    }
  }
  return null
}

/** Where Playwright keeps its downloads, as its documentation says. */
function playwrightFolder() {
  const { PLAYWRIGHT_BROWSERS_PATH, XDG_CACHE_HOME, LOCALAPPDATA } = process.env
  if (PLAYWRIGHT_BROWSERS_PATH && PLAYWRIGHT_BROWSERS_PATH !== '0') return PLAYWRIGHT_BROWSERS_PATH
  const home = os.homedir()
  if (process.platform === 'darwin') return path.join(home, 'Library', 'Caches', 'ms-playwright')
  if (process.platform === 'win32') return path.join(LOCALAPPDATA ?? home, 'ms-playwright')
  return path.join(XDG_CACHE_HOME ?? path.join(home, '.cache'), 'ms-playwright')
}

/** Playwright's own Chromium, when it has been downloaded. */
function playwrightBrowser() {
  // Loading Playwright takes most of a second: only where it may have something.
  if (process.env.PLAYWRIGHT_BROWSERS_PATH !== '0' && !existsSync(playwrightFolder())) return null
  try {
    const file = createRequire(import.meta.url)('playwright-core').chromium.executablePath()
    return file && existsSync(file) ? file : null
  } catch {
    return null
  }
}

/**
 * A Chromium that is already here: SKEIN_BROWSER, then Playwright's own, then an installed one. Installs nothing.
 * @param {NodeJS.ProcessEnv} env
 * @returns {string | null}
 * @throws {BrowserError} when SKEIN_BROWSER names a file that does not exist
 */
export function findBrowser(env = process.env) {
  const named = env.SKEIN_BROWSER
  if (named) {
    if (!existsSync(named)) throw new BrowserError(`SKEIN_BROWSER names ${named}, which does not exist.`)
    return named
  }
  const known = process.platform === 'darwin' || process.platform === 'win32' ? installedPaths[process.platform] : []
  return playwrightBrowser() ?? onPath(installedNames, env.PATH) ?? known.find(isFile) ?? null
}

/**
 * @param {string} command
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} [env]
 */
const succeeds = (command, args, env = process.env) =>
  spawnSync(command, args, { stdio: ['ignore', 'inherit', 'inherit'], env }).status === 0

function installWithApt() {
  if (!onPath(['apt-get'])) return false
  const root = process.getuid?.() === 0
  if (!root && !(onPath(['sudo']) && spawnSync('sudo', ['-n', 'true'], { stdio: 'ignore' }).status === 0)) return false
  /** @param {string[]} args */
  const apt = (args) =>
    root
      ? succeeds('apt-get', args, { ...process.env, DEBIAN_FRONTEND: 'noninteractive' })
      : succeeds('sudo', ['-n', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', ...args])
  // A stale package list is the usual reason for a failed install; a failed update alone need not stop one.
  apt(['update', '-q'])
  return apt(['install', '-y', '-q', '--no-install-recommends', 'chromium'])
}

function installWithPlaywright() {
  try {
    const cli = createRequire(import.meta.url).resolve('playwright-core/package.json')
    return succeeds(process.execPath, [path.join(path.dirname(cli), 'cli.js'), 'install', 'chromium'])
  } catch {
    return false
  }
}

/**
 * Finds a Chromium or installs one, saying so.
 * @param {(line: string) => void} say
 * @returns {string} the executable
 * @throws {BrowserError} when nothing worked
 */
export function ensureBrowser(say) {
  const found = findBrowser()
  if (found) return found
  say('No Chromium or Chrome found; installing Debian’s chromium with apt-get.')
  if (installWithApt()) {
    const installed = findBrowser()
    if (installed) return installed
  }
  say('That did not work; trying Playwright’s download.')
  if (installWithPlaywright()) {
    const installed = findBrowser()
    if (installed) return installed
  }
  throw new BrowserError('No Chromium or Chrome was found, and none could be installed.')
}

/**
 * What a Chromium needs for WebGPU and WebRTC on any machine, one without a GPU or a network address included.
 * SKEIN_BROWSER_ARGS adds to it, separated by spaces.
 * @returns {string[]}
 */
export function browserArgs() {
  const args = [
    // Without it a software adapter is not offered.
    '--enable-unsafe-webgpu',
    // Without it two pages of a machine that has no address but loopback find no way to each other.
    '--allow-loopback-in-peer-connection',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ]
  // Chromium refuses its sandbox to root.
  if (process.getuid?.() === 0) args.push('--no-sandbox')
  return args.concat((process.env.SKEIN_BROWSER_ARGS ?? '').split(' ').filter(Boolean))
}

/**
 * The folder that holds the browser's libvulkan and SwiftShader, or null.
 * @param {string} executable
 * @returns {string | null}
 */
export function swiftShaderFolder(executable) {
  const folders = [path.dirname(realpathSync(executable)), '/usr/lib/chromium', '/opt/google/chrome']
  return folders.find((folder) => isFile(path.join(folder, 'vk_swiftshader_icd.json'))) ?? null
}

/** True when the system has a Vulkan driver of its own for a GPU that is really there. */
function hasRealGpu() {
  /** @param {string} folder */
  const list = (folder) => (existsSync(folder) ? readdirSync(folder) : [])
  const devices =
    list('/dev').some((name) => /^nvidia\d+$/.test(name)) || list('/dev/dri').some((n) => n.startsWith('render'))
  const drivers = ['/usr/share/vulkan/icd.d', '/etc/vulkan/icd.d'].flatMap(list)
  return devices && drivers.some((name) => !/lvp|lavapipe|swiftshader/.test(name))
}

/**
 * Variables with which Dawn in Node finds an adapter: the browser's SwiftShader where there is no GPU. They must be set
 * before the process that loads Dawn starts. Empty where the user chose a driver, or a GPU and its driver are there.
 * @returns {Record<string, string>}
 */
export function dawnEnvironment(env = process.env) {
  if (process.platform !== 'linux' || env.VK_ICD_FILENAMES || env.VK_DRIVER_FILES || hasRealGpu()) return {}
  const executable = findBrowser(env)
  const folder = executable && swiftShaderFolder(executable)
  if (!folder) return {}
  return {
    VK_ICD_FILENAMES: path.join(folder, 'vk_swiftshader_icd.json'),
    LD_LIBRARY_PATH: [folder, env.LD_LIBRARY_PATH].filter(Boolean).join(path.delimiter),
  }
}
