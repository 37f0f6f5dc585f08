/** Proves that the agent's id and totals outlast it, and that one agent at a time has them. */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { defaultStateFolder, openState } from '../../../src/agent/state.ts'

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
  expect(second.deviceId).toBe(first.deviceId)
  expect(await second.contribution()).toEqual({ tokens: 10, steps: 2, upBytes: 2, downBytes: 3 })
  second.release()
  if (process.platform !== 'win32') expect(statSync(path.join(folder, 'device.json')).mode & 0o077).toBe(0)
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
