/** Owns a folder of chunks in memory, whose disk fills up, fails or stops answering as a test wants. */
import { cacheChunks, type ChunkFolder } from '../../../src/store/chunks.ts'
import type { ChunkPlace } from './chunks.compliance.ts'

type Call = keyof ChunkFolder

export interface MemoryFolder extends ChunkPlace {
  readonly folder: ChunkFolder
  readonly files: Map<string, { bytes: Uint8Array<ArrayBuffer>; usedAt: number }>
  /** What `room` promises. */
  promised: number
  /** What there is. */
  actual: number
  failing: Set<Call>
  /** Calls that never come back, and how often each was made. */
  hanging: Set<Call>
  calls: Map<Call, number>
}

export function memoryFolder(): MemoryFolder {
  let clock = 0
  const files: MemoryFolder['files'] = new Map()
  const answer = async <T>(call: Call, value: () => T): Promise<T> => {
    memory.calls.set(call, (memory.calls.get(call) ?? 0) + 1)
    if (memory.failing.has(call)) throw new Error(`${call} fails`)
    if (memory.hanging.has(call)) return new Promise(() => {})
    return value()
  }
  const folder: ChunkFolder = {
    list: () =>
      answer('list', () => [...files].map(([hash, { bytes, usedAt }]) => ({ hash, bytes: bytes.length, usedAt }))),
    room: () => answer('room', () => memory.promised),
    read: (hash) => answer('read', () => files.get(hash)!.bytes.slice()),
    write: (hash, bytes) =>
      answer('write', () => {
        const held = [...files.values()].reduce((sum, file) => sum + file.bytes.length, 0)
        if (held + bytes.length > memory.actual) return false
        files.set(hash, { bytes: bytes.slice(), usedAt: (clock += 1) })
        return true
      }),
    touch: (hash) => answer('touch', () => void (files.get(hash)!.usedAt = clock += 1)),
    remove: (hash) => answer('remove', () => void files.delete(hash)),
  }
  const memory: MemoryFolder = {
    folder,
    files,
    promised: Infinity,
    actual: Infinity,
    failing: new Set(),
    hanging: new Set(),
    calls: new Map(),
    open: (limits) => cacheChunks(() => Promise.resolve(folder), limits),
    names: () => Promise.resolve([...files.keys()]),
    overwrite: (hash, bytes) => Promise.resolve(void (files.get(hash)!.bytes = bytes)),
  }
  return memory
}
