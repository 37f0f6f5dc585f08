/** Owns how a stage's weights and moments come from a checkpoint and go into one: by chunks whose hash is their name, over a cache. */
import { CHUNK_ELEMENTS, type Assignment, type Chunk } from '../protocol/control.ts'
import { SkeinError } from '../protocol/errors.ts'
import type { Shard } from '../protocol/routing.ts'
import { sha256, type ChunkCache } from '../store/chunks.ts'
import type { StageModel, VectorKind } from './model.ts'
import { fetchBytes, putBytes } from './transfer.ts'

const PARALLEL = 4

/** One vector's part of a shard, f32. */
export interface ShardPart {
  readonly kind: VectorKind
  readonly values: Float32Array<ArrayBuffer>
}

/**
 * Brings every chunk, from `cache` or else from the server, checks its hash and writes it to the model once that is made,
 * until when a few chunks wait; `progress` goes from 0 to 1 by bytes. What was downloaded before an interruption is in the
 * cache and is not downloaded again. A kind without chunks is zeros, as in a model that was just made: nothing is written.
 * @throws SkeinError `transfer.failed`, `blob.hash_mismatch`
 */
export async function loadWeights(
  apiUrl: string,
  { checkpoint }: Assignment,
  making: Promise<StageModel>,
  signal: AbortSignal,
  progress: (share: number) => void,
  cache: ChunkCache,
): Promise<void> {
  const { chunks } = checkpoint.stage
  const total = chunks.reduce((sum, chunk) => sum + chunk.length, 0)
  let loaded = 0
  const queue = [...chunks]
  const worker = async () => {
    let keeping: Promise<void> = Promise.resolve()
    for (let chunk = queue.shift(); chunk; chunk = queue.shift()) {
      let bytes = await cache.get(chunk.hash)
      signal.throwIfAborted()
      if (bytes?.byteLength !== 4 * chunk.length) {
        bytes = await downloadChunk(apiUrl, chunk, signal)
        // A disk slower than the network has at most one chunk of each worker to write.
        await keeping
        keeping = cache.put(chunk.hash, bytes)
      }
      const model = await making
      signal.throwIfAborted()
      model.write(chunk.kind, chunk.offset, new Float32Array(bytes.buffer))
      loaded += chunk.length
      progress(loaded / total)
    }
  }
  await Promise.all(Array.from({ length: PARALLEL }, worker))
}

async function downloadChunk(
  apiUrl: string,
  { hash, length }: Chunk,
  signal: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = await fetchBytes(`${apiUrl}/blobs/${hash}`, { signal }, 4 * length)
  if ((await sha256(bytes)) === hash) return bytes
  throw new SkeinError({
    code: 'blob.hash_mismatch',
    message: 'A chunk of the checkpoint does not match its hash.',
    remedy: 'Something between this device and the server alters data: try another network.',
  })
}

/**
 * Reads a shard of some vectors as they stand between two steps; all that saving needs of the GPU.
 * @param kinds see `sharedVectors`
 */
export async function readShard(model: StageModel, shard: Shard, kinds: readonly VectorKind[]): Promise<ShardPart[]> {
  const parts: ShardPart[] = []
  for (const kind of kinds) if (shard.length > 0) parts.push({ kind, values: await model.read(kind, shard) })
  return parts
}

/**
 * Uploads the parts that {@link readShard} gave and returns the chunks that a manifest lists; needs no GPU, so that training
 * goes on meanwhile. The chunks go into `cache` too: a rollback, or a reload, makes this device load them again.
 * @throws SkeinError `transfer.failed`; the signal's reason when aborted
 */
export async function saveShard(
  apiUrl: string,
  token: string,
  shard: Shard,
  parts: readonly ShardPart[],
  signal: AbortSignal,
  cache: ChunkCache,
): Promise<Chunk[]> {
  const chunks: Chunk[] = []
  for (const { kind, values } of parts) {
    for (let from = 0; from < values.length; from += CHUNK_ELEMENTS) {
      const slice = values.slice(from, from + CHUNK_ELEMENTS)
      const bytes = new Uint8Array(slice.buffer)
      const hash = await sha256(bytes)
      await Promise.all([putBytes(`${apiUrl}/blobs/${hash}`, token, bytes, signal), cache.put(hash, bytes)])
      chunks.push({ kind, offset: shard.offset + from, length: slice.length, hash })
    }
  }
  return chunks
}
