/** Owns what the agent keeps over restarts: its device's key, what it contributed, and that one agent at a time uses them. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import Database from 'better-sqlite3'
import { z } from 'zod'
import { fail, SkeinError } from '../protocol/errors.ts'
import { addContribution, NO_CONTRIBUTION, type DeviceStore } from '../store/device.ts'
import type { DeviceIdentity } from '../store/deviceKey.ts'
import type { ReceiptStore } from '../store/receipts.ts'
import { openKeyFile } from './keyFile.ts'
import { receiptFile } from './receiptFile.ts'

const total = z.number().min(0)
const deviceSchema = z.object({
  contribution: z.object({ tokens: total, steps: total, upBytes: total, downBytes: total }),
})
type Device = z.infer<typeof deviceSchema>

const REMEDY = 'Name a folder that this user may write to, with --state DIR.'

/** Where the state lies unless told: systemd's own folder for the service, or what the system's custom is. */
export function defaultStateFolder(
  env: NodeJS.ProcessEnv = process.env,
  platform: NodeJS.Platform = process.platform,
  home: string = os.homedir(),
): string {
  // systemd lists several with colons; the first is meant for the program itself.
  if (env.STATE_DIRECTORY) return env.STATE_DIRECTORY.split(':')[0]!
  if (platform === 'win32') return path.join(env.LOCALAPPDATA ?? path.join(home, 'AppData', 'Local'), 'Skein')
  if (platform === 'darwin') return path.join(home, 'Library', 'Application Support', 'Skein')
  return path.join(env.XDG_STATE_HOME ?? path.join(home, '.local', 'state'), 'skein')
}

export interface AgentState extends DeviceStore {
  readonly receipts: Pick<ReceiptStore, 'add'>
  /** Lets another agent have the folder; the end of the process does so as well, however it ends. */
  release(): void
}

/**
 * Opens the folder, making it where there is none.
 * @throws SkeinError `agent.state` (cannot be made, read or written), `agent.state_in_use`, `agent.key`,
 * `agent.key_exposed`
 */
export function openState(folder: string): AgentState {
  const file = path.join(folder, 'device.json')
  let release = () => {}
  let device: Device
  let identity: DeviceIdentity
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    release = lock(folder)
    device = readDevice(file)
    identity = openKeyFile(path.join(folder, 'device.key'))
    write(file, device)
  } catch (caught) {
    release()
    if (caught instanceof SkeinError) throw caught
    return fail('agent.state', `The state folder ${folder} cannot be used: ${(caught as Error).message}`, REMEDY)
  }
  return {
    identity,
    contribution: () => Promise.resolve(device.contribution),
    add(more) {
      device.contribution = addContribution(device.contribution, more)
      return Promise.resolve().then(() => write(file, device))
    },
    receipts: receiptFile(folder),
    release,
  }
}

/** The lock is the operating system's, held through an open SQLite transaction: a crash leaves none behind. */
function lock(folder: string): () => void {
  const database = new Database(path.join(folder, 'lock'), { timeout: 0 })
  try {
    database.exec('BEGIN EXCLUSIVE')
  } catch (caught) {
    database.close()
    if (!String((caught as { code?: unknown }).code).startsWith('SQLITE_BUSY')) throw caught
    fail(
      'agent.state_in_use',
      `Another agent uses the state folder ${folder}.`,
      'Stop that agent, or give this one a folder of its own: --state DIR.',
    )
  }
  return () => database.close()
}

function readDevice(file: string): Device {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (caught) {
    if ((caught as NodeJS.ErrnoException).code !== 'ENOENT') throw caught
    return { contribution: { ...NO_CONTRIBUTION } }
  }
  const parsed = deviceSchema.safeParse(json(text))
  if (parsed.success) return parsed.data
  return fail(
    'agent.state',
    `${file} does not hold what an agent writes there.`,
    'Move that file away; the totals then start from nothing.',
  )
}

function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

/** Whole or not at all: a reader never finds half a file. */
function write(file: string, device: Device): void {
  writeFileSync(`${file}.new`, `${JSON.stringify(device, null, 2)}\n`, { mode: 0o600 })
  renameSync(`${file}.new`, file)
}
