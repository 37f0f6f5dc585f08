/** Owns what a claimant has to show for an audit: which bytes, of what size and under which digest, and what evidence they make. */
import { createHash } from 'node:crypto'
import { sketchBoundary, sketchShard } from '../../../src/audit/evidence.ts'
import { GRADIENT_WIDTH, ROW_WIDTH, type SketchSeed } from '../../../src/audit/sketch.ts'
import type { TensorKind } from '../../../src/audit/tolerances.ts'
import { gradientLift } from '../../../src/codec/lift.ts'
import { boundaryBytes, numbersPerToken } from '../../../src/codec/boundary.ts'
import { runLayouts } from '../../../src/model/layout.ts'
import { stageShards } from '../../../src/model/optimizerShards.ts'
import { MAX_EVIDENCE_ROWS, MAX_EVIDENCE_TENSORS, type ExhibitKind } from '../../../src/protocol/audit.ts'
import type { Digest } from '../../../src/protocol/receipt.ts'
import { shardCount, type Shard } from '../../../src/protocol/routing.ts'
import type { RunConfig } from '../../../src/protocol/runConfig.ts'
import type { WorkClaim } from '../../orchestrator/types.ts'
import type { Evidence } from '../types.ts'

/** One thing to show. */
export interface Exhibit {
  readonly kind: ExhibitKind
  /** Of its bytes, as the receipt has it. */
  readonly digest: Digest
  readonly bytes: number
  readonly tensor: TensorKind
  /** The sketch of the bytes. @throws RangeError where they are none of that shape */
  sketch(bytes: Uint8Array): Float32Array
}

/** What of a claim is looked at, drawn after it was made. */
export interface Drawn {
  readonly microbatch: number
  readonly shard: number
  readonly seed: SketchSeed
}

/** Shards of the claim's stage that hold part of a tensor: tiny stages have empty ones. */
export function shardsToDraw(config: RunConfig, stage: number): number[] {
  return shardsAt(config, stage).flatMap((shard, i) => (tensorsIn(config, stage, shard) > 0 ? [i] : []))
}

export function exhibitsOf(
  config: RunConfig,
  { stage, entries, shares }: WorkClaim,
  { microbatch, shard, seed }: Drawn,
): Exhibit[] {
  const { activationMade, gradientMade } = entries.find((entry) => entry.microbatch === microbatch)!
  const shape = { rows: config.microbatch * config.model.blockSize, columns: numbersPerToken(config) }
  const tensorBytes = boundaryBytes(config, shape.rows)
  const exhibits: Exhibit[] = []
  const boundary = (kind: 'activation' | 'gradient', digest: Digest | null, tensor: TensorKind, scale: number) => {
    if (digest === null) return
    const sketch = (bytes: Uint8Array) => sketchBoundary(config.codec, bytes, shape, scale, seed)
    exhibits.push({ kind, digest, bytes: tensorBytes, tensor, sketch })
  }
  boundary('activation', activationMade, 'activation', 1)
  boundary('gradient', gradientMade, 'inputGradient', gradientLift(config))
  const range = shardsAt(config, stage)[shard]
  const digest = shares[shard]
  if (range && digest !== undefined) {
    const { tensors } = runLayouts(config)[stage]!
    const sketch = (bytes: Uint8Array) => sketchShard(floatsOf(bytes), range, tensors, seed)
    exhibits.push({ kind: 'share', digest, bytes: 4 * range.length, tensor: 'parameterGradient', sketch })
  }
  return exhibits
}

/** Of bytes, as receipts name tensors. */
export const digestOf = (bytes: Uint8Array): Digest => createHash('sha256').update(bytes).digest('hex').slice(0, 32)

/** Whether a juror says all that it can have computed, in the right sizes: what is left out would agree with anything. */
export function isWhole(config: RunConfig, claim: WorkClaim, shard: number, evidence: Evidence): boolean {
  const { stage, entries } = claim
  const rows = ROW_WIDTH * Math.min(config.microbatch * config.model.blockSize, MAX_EVIDENCE_ROWS)
  const last = stage === config.stages - 1
  const range = shardsAt(config, stage)[shard]!
  const due = {
    // What an activation is measured from; where none is made it is not looked at.
    input: stage > 0 && !last ? rows : 0,
    activation: last ? 0 : rows,
    inputGradient: stage > 0 ? rows : 0,
    parameterGradient: GRADIENT_WIDTH * Math.min(tensorsIn(config, stage, range), MAX_EVIDENCE_TENSORS),
    loss: last ? entries.length : 0,
  }
  return Object.entries(due).every(([kind, length]) => (evidence[kind as keyof typeof due]?.length ?? 0) === length)
}

function shardsAt(config: RunConfig, stage: number): Shard[] {
  return stageShards(runLayouts(config)[stage]!, shardCount(config), config.optimizer)
}

function tensorsIn(config: RunConfig, stage: number, shard: Shard): number {
  const end = shard.offset + shard.length
  const { tensors } = runLayouts(config)[stage]!
  return tensors.filter(({ offset, length }) => offset < end && offset + length > shard.offset).length
}

function floatsOf(bytes: Uint8Array): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Float32Array.from({ length: bytes.byteLength / 4 }, (_, i) => view.getFloat32(4 * i, true))
}
