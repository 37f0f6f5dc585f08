/** Proves the cache of chunks in memory and in the agent's folder, and that a bad disk only makes it cache less. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { agentChunks } from '../../../src/agent/chunks.ts'
import { cacheChunks, NO_CHUNKS, sha256 } from '../../../src/store/chunks.ts'
import { chunkCacheCases } from './chunks.compliance.ts'
import { memoryFolder } from './memoryFolder.ts'

let state = ''
beforeEach(() => (state = mkdtempSync(path.join(os.tmpdir(), 'skein-chunks-'))))
afterEach(() => rmSync(state, { recursive: true }))

describe('a cache in memory', () => {
  it.each(chunkCacheCases)('%s', (_, run) => run(memoryFolder()))
})

describe('a cache in the agent’s state folder', () => {
  const folder = () => path.join(state, 'chunks')
  const names = () => {
    try {
      return readdirSync(folder())
    } catch {
      return []
    }
  }
  it.each(chunkCacheCases)('%s', (_, run) =>
    run({
      open: (limits) => agentChunks(state, limits),
      names: () => Promise.resolve(names()),
      overwrite: (hash, bytes) => Promise.resolve(writeFileSync(path.join(folder(), hash), bytes)),
    }),
  )

  it('clears away what a killed agent left unfinished, and leaves alone what is not its own', async () => {
    mkdirSync(folder())
    writeFileSync(path.join(folder(), `${'a'.repeat(64)}.new`), 'half')
    writeFileSync(path.join(folder(), 'README'), 'mine')
    const { hash, bytes } = await chunk(1)
    const cache = agentChunks(state, { mostBytes: bytes.length })
    await cache.put(hash, bytes)
    expect(names().sort()).toEqual([hash, 'README'])
  })
})

const SIZE = 1000
async function chunk(seed: number) {
  const bytes = new Uint8Array(SIZE).fill(seed)
  return { hash: await sha256(bytes), bytes }
}
const chunks = await Promise.all([1, 2, 3, 4, 5].map(chunk))

describe('where the disk is not what it should be', () => {
  it('takes a quarter of the room', async () => {
    const memory = memoryFolder()
    memory.promised = 8 * SIZE
    const cache = memory.open()
    for (const { hash, bytes } of chunks) await cache.put(hash, bytes)
    expect([...memory.files.keys()]).toEqual([chunks[3]!.hash, chunks[4]!.hash])
  })

  it('goes on with what it has when there is less room than promised', async () => {
    const memory = memoryFolder()
    memory.actual = 2 * SIZE
    const cache = memory.open()
    for (const { hash, bytes } of chunks) await cache.put(hash, bytes)
    expect([...memory.files.keys()]).toEqual([chunks[3]!.hash, chunks[4]!.hash])
    // Learnt once: after that it makes room by itself before it writes.
    expect(memory.calls.get('write')).toBe(6)
  })

  it('keeps nothing on a full disk, and nothing is an error', async () => {
    const memory = memoryFolder()
    memory.actual = SIZE - 1
    const cache = memory.open()
    for (const { hash, bytes } of chunks) await cache.put(hash, bytes)
    expect(await cache.get(chunks[0]!.hash)).toBeNull()
    expect(memory.files.size).toBe(0)
  })

  // What is given of a chunk from the visit before, and of two that are put now into a cache for two.
  it.each([
    ['list', [false, false, false]],
    ['room', [false, false, false]],
    ['read', [false, false, false]],
    ['write', [true, false, false]],
    ['touch', [false, true, true]],
    ['remove', [false, true, true]],
  ] as const)('never rejects when `%s` fails', async (call, expected) => {
    const memory = memoryFolder()
    const three = chunks.slice(0, 3)
    await memory.open().put(three[0]!.hash, three[0]!.bytes)
    memory.failing.add(call)
    const cache = memory.open({ mostBytes: 2 * SIZE })
    for (const { hash, bytes } of three) await cache.put(hash, bytes)
    const got = await Promise.all(three.map(({ hash }) => cache.get(hash)))
    expect(got).toEqual(three.map(({ bytes }, i) => (expected[i] ? bytes : null)))
  })

  it.each(['read', 'write'] as const)('leaves a disk alone that did not answer `%s`', async (call) => {
    const memory = memoryFolder()
    const [a, b] = chunks as [(typeof chunks)[0], (typeof chunks)[0]]
    await memory.open().put(a.hash, a.bytes)
    const cache = memory.open({ deadlineMs: 20 })
    memory.calls.clear()
    memory.hanging.add(call)
    await cache.put(b.hash, b.bytes)
    expect(await cache.get(a.hash)).toBeNull()
    await cache.put(b.hash, b.bytes)
    expect(await cache.get(b.hash)).toBeNull()
    expect(memory.calls.get(call)).toBe(1)
  })

  it('keeps nothing where storage is refused, or does not open', async () => {
    const { hash, bytes } = chunks[0]!
    const refused = cacheChunks(() => Promise.reject(new DOMException('no storage here', 'SecurityError')))
    const hanging = cacheChunks(() => new Promise(() => {}), { deadlineMs: 20 })
    for (const cache of [refused, hanging, NO_CHUNKS]) {
      await cache.put(hash, bytes)
      expect(await cache.get(hash)).toBeNull()
    }
  })
})
