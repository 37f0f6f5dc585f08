/** Owns how a stage's weights and moments come from a checkpoint and go into one: by chunks whose hash is their name. */
import { CHUNK_ELEMENTS, type Assignment, type Chunk } from '../protocol/control.ts'
import { SkeinError } from '../protocol/errors.ts'
import type { Shard } from '../protocol/routing.ts'
import type { StageModel, VectorKind } from './model.ts'
import { fetchBytes, putBytes } from './transfer.ts'

const PARALLEL = 4
const KINDS: readonly VectorKind[] = ['parameters', 'firstMoment', 'secondMoment']

export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('')
}

/**
 * Downloads every chunk, checks its hash and writes it to the model once that is made, until when a few chunks wait;
 * `progress` goes from 0 to 1 by bytes.
 * @throws SkeinError `transfer.failed`, `blob.hash_mismatch`
 */
export async function loadWeights(
  apiUrl: string,
  { checkpoint }: Assignment,
  making: Promise<StageModel>,
  signal: AbortSignal,
  progress: (share: number) => void,
): Promise<void> {
  const { chunks } = checkpoint.stage
  const total = chunks.reduce((sum, chunk) => sum + chunk.length, 0)
  let loaded = 0
  const queue = [...chunks]
  const worker = async () => {
    for (let chunk = queue.shift(); chunk; chunk = queue.shift()) {
      const bytes = await fetchBytes(`${apiUrl}/blobs/${chunk.hash}`, { signal }, 4 * chunk.length)
      if ((await sha256(bytes)) !== chunk.hash)
        throw new SkeinError({
          code: 'blob.hash_mismatch',
          message: 'A chunk of the checkpoint does not match its hash.',
          remedy: 'Something between this device and the server alters data: try another network.',
        })
      const model = await making
      signal.throwIfAborted()
      model.write(chunk.kind, chunk.offset, new Float32Array(bytes.buffer))
      loaded += chunk.length
      progress(loaded / total)
    }
  }
  await Promise.all(Array.from({ length: PARALLEL }, worker))
}

/** Reads this replica's shard of all three vectors and the hash of all its parameters; must run between two steps. */
export async function readShard(
  model: StageModel,
  shard: Shard,
): Promise<{ parts: { kind: VectorKind; values: Float32Array<ArrayBuffer> }[]; parametersHash: string }> {
  const whole = await model.read('parameters', { offset: 0, length: model.layout.length })
  const parametersHash = await sha256(new Uint8Array(whole.buffer))
  const parts: { kind: VectorKind; values: Float32Array<ArrayBuffer> }[] = []
  for (const kind of KINDS) if (shard.length > 0) parts.push({ kind, values: await model.read(kind, shard) })
  return { parts, parametersHash }
}

/** Uploads a shard's parts and returns the chunks that a manifest lists. */
export async function saveShard(
  apiUrl: string,
  token: string,
  shard: Shard,
  parts: readonly { kind: VectorKind; values: Float32Array<ArrayBuffer> }[],
  signal: AbortSignal,
): Promise<Chunk[]> {
  const chunks: Chunk[] = []
  for (const { kind, values } of parts) {
    for (let from = 0; from < values.length; from += CHUNK_ELEMENTS) {
      const slice = values.slice(from, from + CHUNK_ELEMENTS)
      const bytes = new Uint8Array(slice.buffer)
      const hash = await sha256(bytes)
      await putBytes(`${apiUrl}/blobs/${hash}`, token, bytes, signal)
      chunks.push({ kind, offset: shard.offset + from, length: slice.length, hash })
    }
  }
  return chunks
}
