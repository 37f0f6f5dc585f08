/** Owns how a stage's tensors become frames and frames tensors: their shapes are checked before the machine hears of them. */
import { boundaryRows as rowsOf, numbersPerToken } from '../codec/boundary.ts'
import { groupedBytes } from '../codec/groups.ts'
import { runLayouts } from '../model/layout.ts'
import { mergedLengths } from '../model/local/laneMoments.ts'
import { stageShards } from '../model/optimizerShards.ts'
import type { Priority } from '../net/link.ts'
import { fail } from '../protocol/errors.ts'
import { decodeFrame, encodeFrame, FRAME_KINDS, type Frame, type FrameKind } from '../protocol/frame.ts'
import { laneCount, mostMicrobatches } from '../protocol/lanes.ts'
import { shardCount, type Shard } from '../protocol/routing.ts'
import type { RunConfig } from '../protocol/runConfig.ts'
import { lanesOf } from './laneShares.ts'
import type { TensorAddress, TensorKind } from './machineTypes.ts'
import { sharedVectors } from './model.ts'

/** What the shape of a frame follows from. */
export interface FrameShape {
  readonly config: RunConfig
  /** Of the stage's vectors; all its replicas cut alike. */
  readonly shards: readonly Shard[]
  /** With local steps: numbers that merge of each shard. */
  readonly merged: readonly number[]
}

export function frameShape(config: RunConfig, stage: number): FrameShape {
  const layout = runLayouts(config)[stage]!
  const shards = stageShards(layout, shardCount(config), config.optimizer)
  return { config, shards, merged: mergedLengths(config, layout, shards) }
}

export type ReceivedFrame =
  { type: 'frame'; address: TensorAddress; tensor: Uint8Array } | { type: 'want'; address: TensorAddress }

const kindByNumber = new Map<number, FrameKind>(
  Object.entries(FRAME_KINDS).map(([kind, number]) => [number, kind as FrameKind]),
)

/** Whatever a step's pipeline waits for goes first, then what ends a step, then what only makes a copy. */
export function priorityOf(kind: TensorKind): Priority {
  if (kind === 'activation' || kind === 'gradient') return 'boundary'
  return kind === 'momentShard' ? 'checkpoint' : 'merge'
}

/** Tokens of a boundary tensor; 0 for the other kinds and for a size that no whole sequences have. */
export function boundaryRows({ kind }: TensorAddress, byteLength: number, { config }: FrameShape): number {
  if (kind !== 'activation' && kind !== 'gradient') return 0
  const { blockSize } = config.model
  const rows = rowsOf(config, byteLength) ?? 0
  return rows % blockSize === 0 && rows <= config.microbatch * blockSize ? rows : 0
}

export function tensorFrame(address: TensorAddress, tensor: Uint8Array, shape: FrameShape): Uint8Array<ArrayBuffer> {
  const boundary = address.kind === 'activation' || address.kind === 'gradient'
  const merged = lanesIn(address, tensor.byteLength, shape)
  if (merged) return encodeFrame({ ...address, ...merged }, tensor)
  const rows = boundary ? boundaryRows(address, tensor.byteLength, shape) : vectorsOf(address.kind, shape)
  const columns = boundary ? numbersPerToken(shape.config) : tensor.byteLength / 4 / rows
  return encodeFrame({ ...address, codec: boundary ? shape.config.codec : 'f32', rows, columns }, tensor)
}

/** Asks for the tensor of this address. */
export function wantFrame(address: TensorAddress): Uint8Array<ArrayBuffer> {
  const columns = FRAME_KINDS[address.kind]
  return encodeFrame({ ...address, kind: 'want', codec: 'f32', rows: 0, columns }, new Uint8Array(0))
}

/**
 * Reads a frame of this generation; null: it belongs to another one. The tensor is a view into `bytes`.
 * @throws SkeinError `frame.*`, `frame.shape` when the tensor cannot be one of this stage
 */
export function readFrame(bytes: Uint8Array, generation: number, shape: FrameShape): ReceivedFrame | null {
  const frame = decodeFrame(bytes)
  if (frame.generation !== generation) return null
  const { step, index, boundary, attempt, payload } = frame
  const kind = frame.kind === 'want' ? kindByNumber.get(frame.columns) : frame.kind
  if (kind === undefined || kind === 'want') return refuse(frame)
  const address = { kind, generation, step, index, boundary, attempt }
  if (frame.kind === 'want') return payload.byteLength === 0 ? { type: 'want', address } : refuse(frame)
  if (!fits(frame, address, shape)) return refuse(frame)
  return { type: 'frame', address, tensor: payload }
}

/** A shard's moments are two vectors in one tensor; with local steps all that is shared goes with its parameters. */
function vectorsOf(kind: TensorKind, { config }: FrameShape): number {
  if (kind === 'parameterShard' && config.sync === 'local') return sharedVectors(config).length
  return kind === 'momentShard' ? 2 : 1
}

/** Of what merges after local steps: one row a lane, or their mean. Null for other tensors; `rows` is 0 where none fits. */
function lanesIn({ kind, index }: TensorAddress, byteLength: number, { config, merged }: FrameShape) {
  if (config.sync !== 'local') return null
  const codec = config.local.mergeCodec
  const columns = merged[index] ?? 0
  if (kind === 'gradientShard' || kind === 'relayedShard') {
    const lanes = lanesOf(codec, byteLength, columns)
    return { codec, columns, rows: lanes <= laneCount(config) ? lanes : 0 }
  }
  if (kind !== 'meanShard') return null
  return { codec, columns, rows: byteLength === groupedBytes(codec, columns) ? 1 : 0 }
}

function fits({ codec, rows, columns, payload }: Frame, address: TensorAddress, shape: FrameShape): boolean {
  const { config, shards } = shape
  if (address.kind === 'activation' || address.kind === 'gradient') {
    // A neighbour that sends ahead takes no more memory here than one step of the run does.
    if (address.index >= mostMicrobatches(config)) return false
    const due = boundaryRows(address, payload.byteLength, shape)
    return codec === config.codec && columns === numbersPerToken(config) && rows > 0 && rows === due
  }
  const length = shards[address.index]?.length ?? -1
  const merged = lanesIn(address, payload.byteLength, shape)
  if (merged) return codec === merged.codec && columns === merged.columns && rows > 0 && rows === merged.rows
  if (address.kind === 'meanShard') return false
  return (
    codec === 'f32' &&
    rows === vectorsOf(address.kind, shape) &&
    columns === length &&
    payload.byteLength === 4 * rows * length
  )
}

function refuse({ kind, index, rows, columns, payload }: Frame): never {
  return fail(
    'frame.shape',
    `A node sent a ${kind} ${index} of ${rows} × ${columns} in ${payload.byteLength} bytes, which does not fit this stage.`,
    'It is asked for again; if it persists, the sender is to reload its page.',
  )
}

export function bytesOf(values: Float32Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}

export function floatsOf(bytes: Uint8Array): Float32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice()
  return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 4)
}

/** Names a tensor among all that are on their way. */
export function addressKey({ kind, generation, step, index, boundary, attempt }: TensorAddress): string {
  return `${kind} ${generation} ${step} ${index} ${boundary} ${attempt}`
}
