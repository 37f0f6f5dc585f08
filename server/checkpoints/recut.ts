/** Owns a checkpoint's change from one cut of the layers into another: every tensor moves as it is, bit for bit. */
import { codeWidthOf } from '../../src/codec/boundary.ts'
import { stageLayout, stageLayouts } from '../../src/model/layout.ts'
import type { StageLayout } from '../../src/model/layout.ts'
import { CHUNK_ELEMENTS } from '../../src/protocol/control.ts'
import type { Chunk, StageCheckpoint } from '../../src/protocol/control.ts'
import { fail } from '../../src/protocol/errors.ts'
import type { RunConfig } from '../../src/protocol/runConfig.ts'
import type { BlobStore } from '../db/store.ts'
import { ChunkReader } from './chunkReader.ts'

/** What of a run's configuration decides how its checkpoints lie. */
type CheckpointConfig = Pick<RunConfig, 'model' | 'codec' | 'codecWidth'>

const KINDS: readonly Chunk['kind'][] = ['parameters', 'firstMoment', 'secondMoment']

/** A tensor and the padding behind it, `offset` to `end`; as long in every cut, since padding follows from the tensor alone. */
interface Room {
  readonly name: string
  readonly offset: number
  readonly end: number
}

/** Where the old cut keeps a room. */
interface Home {
  readonly offset: number
  readonly chunks: Readonly<Record<Chunk['kind'], readonly Chunk[]>>
}

/** Rooms that cover the whole flat vector. */
function roomsOf({ tensors, length }: StageLayout): Room[] {
  return tensors.map(({ name, offset }, i) => ({ name, offset, end: tensors[i + 1]?.offset ?? length }))
}

/**
 * Reads off a checkpoint how its layers were cut: a run may have been cut anew since.
 * @throws SkeinError `checkpoint.incomplete` when its stages are not those of any cut of this model
 */
export function checkpointPartition(config: CheckpointConfig, stages: readonly StageCheckpoint[]): readonly number[] {
  const { model } = config
  const partition = stages.map((_, stage) => {
    const chunks = stages.find((entry) => entry.stage === stage)?.chunks ?? []
    const length = chunks.reduce((sum, chunk) => sum + (chunk.kind === 'parameters' ? chunk.length : 0), 0)
    const ends = { hasEmbedding: stage === 0, hasHead: stage === stages.length - 1 }
    const lengthOf = (layerCount: number) =>
      stageLayout(model, { stage, firstLayer: 0, layerCount, ...ends }, codeWidthOf(config)).length
    // Each layer takes as much as the first, for it starts and ends where a tensor may.
    return (length - lengthOf(0)) / (lengthOf(1) - lengthOf(0))
  })
  const total = partition.reduce((sum, count) => sum + count, 0)
  if (total === model.layers && partition.every((count) => Number.isInteger(count) && count >= 0)) return partition
  return fail(
    'checkpoint.incomplete',
    `A checkpoint of ${stages.length} stages does not hold ${model.layers} whole layers.`,
    'Use an older checkpoint of the run.',
  )
}

/**
 * Writes a checkpoint anew for another cut: parameters and both moments. Vectors that a stage has no chunks of are zeros, and
 * stay left out where nothing else comes with them. Stages that hold the same layers in both cuts keep their chunks. One chunk
 * is read and one written at a time, so that two of them are in memory, whatever the model.
 *
 * @param partition layers of each stage from now on; how the checkpoint is cut shows in its chunks
 * @returns the stages in order, their chunks stored; the old chunks stay
 * @throws SkeinError `checkpoint.incomplete`, `blob.missing`, `blob.corrupt`, `blob.write`; RangeError when `partition` is no
 * cut of the model
 */
export async function recutCheckpoint(
  blobs: BlobStore,
  stages: readonly StageCheckpoint[],
  config: CheckpointConfig,
  partition: readonly number[],
): Promise<StageCheckpoint[]> {
  const width = codeWidthOf(config)
  const before = stageLayouts(config.model, stages.length, checkpointPartition(config, stages), width)
  const after = stageLayouts(config.model, partition.length, partition, width)
  const chunksOf = (stage: number) => stages.find((entry) => entry.stage === stage)!.chunks
  const homes = new Map<string, Home>()
  for (const layout of before) {
    const of = (kind: Chunk['kind']) => chunksOf(layout.stage).filter((chunk) => chunk.kind === kind)
    const [parameters, firstMoment, secondMoment] = KINDS.map(of) as [Chunk[], Chunk[], Chunk[]]
    const chunks = { parameters, firstMoment, secondMoment }
    for (const { name, offset } of roomsOf(layout)) homes.set(name, { offset, chunks })
  }
  const reader = new ChunkReader(blobs)
  const recut: StageCheckpoint[] = []
  for (const layout of after) {
    const { stage } = layout
    const same = before[stage] && isSame(before[stage], layout)
    const chunks = same ? [...chunksOf(stage)] : await stageChunks(blobs, reader, layout, homes)
    recut.push({ stage, chunks })
  }
  return recut
}

function isSame(a: StageLayout, b: StageLayout): boolean {
  return a.firstLayer === b.firstLayer && a.layerCount === b.layerCount && a.hasHead === b.hasHead
}

async function stageChunks(
  blobs: BlobStore,
  reader: ChunkReader,
  layout: StageLayout,
  homes: ReadonlyMap<string, Home>,
): Promise<Chunk[]> {
  const rooms = roomsOf(layout)
  const chunks: Chunk[] = []
  for (const kind of KINDS) {
    const given = rooms.filter(({ name }) => homes.get(name)!.chunks[kind].length > 0)
    if (given.length === 0) continue
    for (let offset = 0; offset < layout.length; offset += CHUNK_ELEMENTS) {
      const length = Math.min(CHUNK_ELEMENTS, layout.length - offset)
      const bytes = new Uint8Array(4 * length)
      for (const room of given) {
        const start = Math.max(room.offset, offset)
        const end = Math.min(room.end, offset + length)
        if (start >= end) continue
        const home = homes.get(room.name)!
        let at = 4 * (start - offset)
        for await (const piece of reader.bytes(home.chunks[kind], home.offset + start - room.offset, end - start)) {
          bytes.set(piece, at)
          at += piece.byteLength
        }
      }
      chunks.push({ kind, offset, length, hash: await blobs.put(bytes) })
    }
  }
  return chunks
}
