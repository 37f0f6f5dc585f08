/** Owns the Worker of the chunk test: the real loading into a model that only records, and the cache's common cases. */
import * as Comlink from 'comlink'
import type { Assignment, Chunk } from '../../../src/protocol/control.ts'
import type { StageModel } from '../../../src/stage/model.ts'
import { loadWeights } from '../../../src/stage/weights.ts'
import { sha256 } from '../../../src/store/chunks.ts'
import { browserChunks } from '../../../src/store/chunksOpfs.ts'
import { chunkCacheCases, type ChunkPlace } from '../../unit/store/chunks.compliance.ts'

const folder = async () => (await navigator.storage.getDirectory()).getDirectoryHandle('chunks', { create: true })

const place: ChunkPlace = {
  open: browserChunks,
  async names() {
    const names: string[] = []
    for await (const name of (await folder()).keys()) names.push(name)
    return names
  },
  async overwrite(hash, bytes) {
    const stream = await (await (await folder()).getFileHandle(hash)).createWritable()
    await stream.write(bytes)
    await stream.close()
  },
}

const probe = {
  /** @returns the hash of the parameters that were loaded, and the progress on the way */
  async load(apiUrl: string, chunks: Chunk[]) {
    const written = new Float32Array(chunks.reduce((sum, { length }) => sum + length, 0))
    const model = { write: (_: string, offset: number, part: Float32Array) => written.set(part, offset) }
    const assignment = { checkpoint: { stage: { chunks } } } as unknown as Assignment
    const shares: number[] = []
    await loadWeights(
      apiUrl,
      assignment,
      Promise.resolve(model as unknown as StageModel),
      new AbortController().signal,
      (share) => shares.push(share),
      browserChunks(),
    )
    return { hash: await sha256(new Uint8Array(written.buffer)), progress: shares.at(-1) }
  },
  /** Files that are filled: a chunk under way has an empty one, or none for a moment. */
  async kept() {
    let files = 0
    for await (const handle of (await folder()).values()) {
      const size = await (handle as FileSystemFileHandle).getFile().then(
        (file) => file.size,
        () => 0,
      )
      if (size > 0) files += 1
    }
    return files
  },
  /** @returns of three chunks, of which another Worker is just filling the second, those that a cache opened now gives */
  async keptBesideAnother() {
    for (const entry of await place.names()) await (await folder()).removeEntry(entry)
    const chunks = [1, 2, 3].map((byte) => new Uint8Array(100).fill(byte))
    const hashes = await Promise.all(chunks.map(sha256))
    const first = browserChunks()
    await first.put(hashes[0]!, chunks[0]!)
    await first.put(hashes[2]!, chunks[2]!)
    const filling = await (await (await folder()).getFileHandle(hashes[1]!, { create: true })).createWritable()
    const second = browserChunks()
    const given = await Promise.all(hashes.map(async (hash) => (await second.get(hash)) !== null))
    await filling.abort()
    return given
  },
  /** @returns what failed, by the case's name */
  async runCases() {
    const failures: string[] = []
    for (const [name, run] of chunkCacheCases) {
      for (const entry of await place.names()) await (await folder()).removeEntry(entry)
      await run(place).catch((caught: unknown) => failures.push(`${name}: ${String(caught)}`))
    }
    return { ran: chunkCacheCases.length, failures }
  },
}
export type ChunkProbe = typeof probe

Comlink.expose(probe)
