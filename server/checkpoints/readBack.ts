/** Owns the proof that a checkpoint is whole before it is published: every chunk is read again from where it lies. */
import type { StageLayout } from '../../src/model/layout.ts'
import type { Chunk, StageCheckpoint } from '../../src/protocol/control.ts'
import { fail, SkeinError } from '../../src/protocol/errors.ts'
import type { BlobStore } from '../db/store.ts'

const KINDS: readonly Chunk['kind'][] = ['parameters', 'firstMoment', 'secondMoment']

/** Whether any little-endian f32 has an exponent of all ones: NaN or infinity. */
function hasNonFinite(bytes: Uint8Array): boolean {
  for (let i = 3; i < bytes.byteLength; i += 4) {
    if ((bytes[i]! & 0x7f) === 0x7f && bytes[i - 1]! >= 0x80) return true
  }
  return false
}

/** @throws SkeinError `checkpoint.incomplete` unless the chunks of one kind tile `[0, length)` */
function checkCover(stage: number, kind: Chunk['kind'], chunks: readonly Chunk[], length: number): void {
  let position = 0
  for (const chunk of [...chunks].sort((a, b) => a.offset - b.offset)) {
    if (chunk.offset !== position || chunk.length === 0) break
    position += chunk.length
  }
  const counted = chunks.reduce((sum, chunk) => sum + chunk.length, 0)
  if (position === length && counted === length) return
  fail(
    'checkpoint.incomplete',
    `The ${kind} of stage ${stage} do not cover its ${length} elements exactly: sound up to ${position}.`,
    'The run goes on from the checkpoint before.',
  )
}

/**
 * Reads every chunk whole, checks its hash, its size and that its values are finite, and that the chunks of each kind
 * cover the stage's flat vector exactly; moments may be left out altogether, which stands for zeros.
 * @returns the bytes of all chunks
 * @throws SkeinError `checkpoint.incomplete`, `checkpoint.not_finite`, `blob.missing`, `blob.corrupt`
 */
export async function readBack(
  blobs: BlobStore,
  stages: readonly StageCheckpoint[],
  layouts: readonly StageLayout[],
): Promise<number> {
  let bytes = 0
  for (const layout of layouts) {
    const found = stages.filter((entry) => entry.stage === layout.stage)
    if (found.length !== 1 || stages.length !== layouts.length)
      fail(
        'checkpoint.incomplete',
        `Stage ${layout.stage} appears ${found.length} times in a checkpoint of ${stages.length} stages.`,
        'The run goes on from the checkpoint before.',
      )
    const { chunks } = found[0]!
    for (const kind of KINDS) {
      const ofKind = chunks.filter((chunk) => chunk.kind === kind)
      if (ofKind.length > 0 || kind === 'parameters') checkCover(layout.stage, kind, ofKind, layout.length)
    }
    for (const chunk of chunks) bytes += await readChunk(blobs, layout.stage, chunk)
  }
  return bytes
}

async function readChunk(blobs: BlobStore, stage: number, chunk: Chunk): Promise<number> {
  const content = await blobs.get(chunk.hash)
  const where = `The ${chunk.kind} of stage ${stage} from ${chunk.offset}`
  if (content.byteLength !== 4 * chunk.length)
    throw new SkeinError({
      code: 'checkpoint.incomplete',
      message: `${where} have ${content.byteLength} bytes where ${4 * chunk.length} were announced.`,
      remedy: 'The run goes on from the checkpoint before.',
    })
  if (hasNonFinite(content))
    fail(
      'checkpoint.not_finite',
      `${where} hold NaN or infinity: the run diverged.`,
      'Launch it anew with a lower rate.',
    )
  return content.byteLength
}
