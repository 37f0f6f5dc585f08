/** Proves that the agent's key and totals outlast it, and that one agent at a time has them. */
import { generateKeyPairSync } from 'node:crypto'
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { verifyEd25519 } from '../../../server/identity/ed25519.ts'
import { defaultStateFolder, openState } from '../../../src/agent/state.ts'
import { deviceKey } from '../../../src/store/deviceKey.ts'

let root = ''
beforeEach(() => (root = mkdtempSync(path.join(os.tmpdir(), 'skein-state-'))))
afterEach(() => rmSync(root, { recursive: true }))

it('is the same device with the same totals the next time', async () => {
  const folder = path.join(root, 'made', 'for', 'it')
  const first = openState(folder)
  await first.add({ tokens: 5, steps: 1, upBytes: 2, downBytes: 3 })
  await first.add({ tokens: 5, steps: 1, upBytes: 0, downBytes: 0 })
  first.release()
  const second = openState(folder)
  expect(second.identity.id).toBe(first.identity.id)
  expect(await second.contribution()).toEqual({ tokens: 10, steps: 2, upBytes: 2, downBytes: 3 })
  second.release()
  for (const name of ['device.json', 'device.key'])
    if (process.platform !== 'win32') expect(statSync(path.join(folder, name)).mode & 0o777).toBe(0o600)
})

it('signs as the device that it is named after, with a key that cannot be read out of the process', async () => {
  const { identity, release } = openState(root)
  release()
  expect(identity.id).toMatch(/^[0-9a-f]{64}$/)
  expect(identity.privateKey.extractable).toBe(false)
  const bytes = new TextEncoder().encode('step 7')
  const signature = Buffer.from(await deviceKey(identity).sign(bytes)).toString('hex')
  expect(verifyEd25519(identity.id, bytes, signature)).toBe(true)
  expect(verifyEd25519(identity.id, new TextEncoder().encode('step 8'), signature)).toBe(false)
})

it('gives a folder from before there were keys a key, and keeps its totals', async () => {
  const contribution = { tokens: 5, steps: 1, upBytes: 2, downBytes: 3 }
  const before = { deviceId: crypto.randomUUID(), contribution }
  writeFileSync(path.join(root, 'device.json'), JSON.stringify(before))
  const state = openState(root)
  expect(state.identity.id).toMatch(/^[0-9a-f]{64}$/)
  expect(await state.contribution()).toEqual(contribution)
  state.release()
})

it('refuses a key that others can read, or that is none, and makes no other', () => {
  openState(root).release()
  const file = path.join(root, 'device.key')
  const key = readFileSync(file, 'utf8')
  if (process.platform !== 'win32') {
    chmodSync(file, 0o640)
    expect(() => openState(root)).toThrow(expect.objectContaining({ code: 'agent.key_exposed' }))
    chmodSync(file, 0o600)
  }
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs8', format: 'pem' })
  for (const text of ['', 'x', String(rsa)]) {
    writeFileSync(file, text)
    expect(() => openState(root)).toThrow(expect.objectContaining({ code: 'agent.key' }))
    expect(readFileSync(file, 'utf8')).toBe(text)
  }
  writeFileSync(file, key)
  openState(root).release()
})

it('is one agent’s at a time', () => {
  const first = openState(root)
  expect(() => openState(root)).toThrow(expect.objectContaining({ code: 'agent.state_in_use' }))
  first.release()
  openState(root).release()
})

it('refuses a file that it did not write, and leaves it as it was', () => {
  const file = path.join(root, 'device.json')
  for (const text of ['{', '{"deviceId": "x"}']) {
    writeFileSync(file, text)
    expect(() => openState(root)).toThrow(expect.objectContaining({ code: 'agent.state' }))
    expect(readFileSync(file, 'utf8')).toBe(text)
  }
})

it('says so where no folder can be made', () => {
  writeFileSync(path.join(root, 'file'), '')
  expect(() => openState(path.join(root, 'file', 'below'))).toThrow(
    expect.objectContaining({ code: 'agent.state', remedy: expect.stringContaining('--state') as string }),
  )
})

it('lies where the system, or its service manager, keeps such things', () => {
  expect(defaultStateFolder({ STATE_DIRECTORY: '/var/lib/skein:/x' }, 'linux', '/home/a')).toBe('/var/lib/skein')
  expect(defaultStateFolder({ XDG_STATE_HOME: '/state' }, 'linux', '/home/a')).toBe(path.join('/state', 'skein'))
  expect(defaultStateFolder({}, 'linux', '/home/a')).toBe(path.join('/home/a', '.local', 'state', 'skein'))
  expect(defaultStateFolder({}, 'darwin', '/Users/a')).toContain('Application Support')
  expect(defaultStateFolder({ LOCALAPPDATA: 'C:\\Local' }, 'win32', 'C:\\a')).toContain('C:\\Local')
})
