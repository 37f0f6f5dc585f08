/** Proves the agent's file of kernel choices: kept over restarts, several adapters side by side, mended when broken. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { agentTuning } from '../../../src/agent/tuning.ts'

let folder = ''
beforeEach(() => (folder = mkdtempSync(path.join(os.tmpdir(), 'skein-tuning-'))))
afterEach(() => rmSync(folder, { recursive: true }))

it('keeps texts by key over restarts', async () => {
  const { store, runtime } = agentTuning(path.join(folder, 'state'))
  expect(runtime).toMatch(/^node \d+\.\d+\.\d+ dawn \d+\.\d+\.\d+$/)
  await store.save('one', 'first')
  await store.save('two', 'second')
  await store.save('one', 'third')
  const again = agentTuning(path.join(folder, 'state')).store
  expect([await again.load('one'), await again.load('two'), await again.load('three')]).toEqual([
    'third',
    'second',
    null,
  ])
})

it('begins anew over a broken file', async () => {
  writeFileSync(path.join(folder, 'kernels.json'), '{"one": 1')
  const { store } = agentTuning(folder)
  await expect(store.load('one')).rejects.toThrow()
  await store.save('one', 'first')
  expect(await store.load('one')).toBe('first')
})
