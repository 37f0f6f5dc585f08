/** Owns the way into the box: the program starts itself anew in namespaces of its own, which end with it. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import process from 'node:process'

const INSIDE = 'SKEIN_WAN_BOX'
const COMMANDS = ['unshare', 'ip', 'nft', 'python3', 'mount'] as const

/** Network, mounts and processes of its own; whatever runs in them ends with the first process. */
const namespaces = () => [
  // Who is not root may still be in a namespace of users, where the machine allows it.
  ...(process.getuid?.() === 0 ? [] : ['--user', '--map-root-user']),
  ...['--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'],
]

/** The names of network namespaces are mounts under /run: a private one keeps them out of the machine's. */
const PREPARE = 'mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && ip link set lo up'

/** Why no box can be made on this machine, as a sentence; null where one can. */
export function whyNoBox(): string | null {
  if (process.platform !== 'linux') return 'network namespaces are Linux’s'
  for (const command of COMMANDS) {
    if (spawnSync(command, ['--help'], { stdio: 'ignore' }).error) return `there is no command ${command} here`
  }
  try {
    accessSync('/dev/net/tun', constants.R_OK | constants.W_OK)
  } catch {
    return 'this user may not open /dev/net/tun; run it as root'
  }
  const tried = spawnSync('unshare', [...namespaces(), 'sh', '-c', `${PREPARE} && ip netns add probe`], {
    encoding: 'utf8',
  })
  return tried.status === 0 ? null : `namespaces cannot be made here (${tried.stderr.trim().slice(0, 200)})`
}

export const isInside = (): boolean => process.env[INSIDE] === '1'

/** Runs a program in a fresh box’s namespaces. */
function start(command: string, args: readonly string[], stdout: 'inherit' | 'pipe'): ChildProcess {
  const script = `${PREPARE} && exec "$0" "$@"`
  return spawn('unshare', [...namespaces(), 'sh', '-c', script, command, ...args], {
    stdio: ['inherit', stdout, 'inherit'],
    env: { ...process.env, [INSIDE]: '1' },
  })
}

async function exitCode(child: ChildProcess): Promise<number> {
  // unshare waits for its child and hears no other signal; with it the whole box ends.
  const forward = () => child.kill('SIGKILL')
  process.on('SIGTERM', forward).on('SIGHUP', forward).on('exit', forward)
  const [code] = (await once(child, 'close')) as [number | null]
  process.off('SIGTERM', forward).off('SIGHUP', forward).off('exit', forward)
  return code ?? 1
}

/** Resolves with the exit code of a program that speaks to the terminal itself. */
export function runInside(command: string, args: readonly string[]): Promise<number> {
  return exitCode(start(command, args, 'inherit'))
}

/**
 * Runs one of our TypeScript programs, which prints its result as one line of JSON, its last.
 * @throws Error where it fails
 */
export async function resultInside<T>(program: string, args: readonly string[] = []): Promise<T> {
  const child = start(process.execPath, [program, ...args], 'pipe')
  let said = ''
  child.stdout!.on('data', (data) => (said += String(data)))
  const code = await exitCode(child)
  if (code !== 0) throw new Error(`${program} ended with ${code}: ${said.slice(-2000)}`)
  return JSON.parse(said.trimEnd().split('\n').at(-1)!) as T
}
