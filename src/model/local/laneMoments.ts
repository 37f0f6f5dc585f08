/**
 * Owns the moments from which lanes begin where they share them: what of an optimizer's moments is merged, and how it is kept.
 *
 * A lane's gradients are noisier than the whole batch's, so that updates of a fixed size, as Muon's are and AdamW's nearly, go less
 * far along what the lanes have in common. So lanes begin from the mean of their moments, which takes much of that noise out.
 */
import type { Kept } from '../../codec/groups.ts'
import { sharesMoments } from '../../protocol/lanes.ts'
import type { Shard } from '../../protocol/routing.ts'
import type { OptimizerConfig, RunConfig } from '../../protocol/runConfig.ts'
import type { StageLayout } from '../layout.ts'
import { bf16Decode, bf16Encode } from '../optimizerMoments.ts'
import { adamwRuns } from '../optimizerShards.ts'

type Floats = Float32Array<ArrayBuffer>

export interface OptimizerMoments {
  readonly firstMoment: Floats
  readonly secondMoment: Floats
}

/** Numbers that merge of each shard after local steps: what lanes changed, and behind it their moments where they share them. */
export function mergedLengths(
  config: Pick<RunConfig, 'local' | 'optimizer'>,
  layout: StageLayout,
  shards: readonly Shard[],
): number[] {
  const moments = sharesMoments(config) ? new LaneMoments(layout, config.optimizer) : null
  return shards.map((shard) => shard.length + (moments?.length(shard) ?? 0))
}

export class LaneMoments {
  readonly #adamw: readonly Shard[]

  constructor(layout: StageLayout, optimizer: Pick<OptimizerConfig, 'kind'>) {
    this.#adamw = adamwRuns(layout, optimizer)
  }

  /** Numbers of a shard that {@link merging} gives. */
  length(shard: Shard): number {
    return this.#runs(shard).reduce((sum, { length }) => sum + length, shard.length)
  }

  /**
   * Of a shard's own moments, as they merge: Muon's momentum or the root of AdamW's second moment, which has fewer magnitudes to be
   * sent in few bits, place by place; then AdamW's first moment.
   */
  merging({ firstMoment, secondMoment }: OptimizerMoments, shard: Shard): Floats {
    const merging = new Float32Array(this.length(shard))
    merging.set(firstMoment)
    for (const { from, to, behind } of this.#runs(shard)) {
      merging.set(firstMoment.subarray(from, to), behind)
      for (let i = from; i < to; i++) merging[i] = Math.sqrt(secondMoment[i]!)
    }
    return merging
  }

  /**
   * As replicas and checkpoints keep it, one word a place: Muon's momentum as f32; of AdamW the root of the second moment in the high
   * half and the first moment in the low one, bf16 each.
   */
  kept(merged: Float32Array, shard: Shard): Floats {
    const kept = merged.slice(0, shard.length)
    const words = new Uint32Array(kept.buffer)
    for (const { from, to, length, behind } of this.#runs(shard)) {
      const roots = bf16Encode(merged.subarray(from, to))
      const firsts = bf16Encode(merged.subarray(behind, behind + length))
      for (let i = 0; i < length; i++) words[from + i] = (roots[i]! << 16) | firsts[i]!
    }
    return kept
  }

  /** The moments with which a lane begins, from what is kept of the whole stage. */
  beginning(kept: Floats): OptimizerMoments {
    const [firstMoment, secondMoment] = [kept.slice(), new Float32Array(kept.length)]
    for (const { offset, length } of this.#adamw) {
      // Every device that runs this is little-endian: the low half comes first.
      const halves = bf16Decode(new Uint16Array(kept.slice(offset, offset + length).buffer))
      for (let i = 0; i < length; i++) {
        firstMoment[offset + i] = halves[2 * i]!
        secondMoment[offset + i] = halves[2 * i + 1]! ** 2
      }
    }
    return { firstMoment, secondMoment }
  }

  /**
   * Of a shard's change with its moments behind it, the roots: if one became zero in few bits, AdamW would divide by next to nothing.
   */
  roots(shard: Shard): Kept {
    const roots = new Uint8Array(shard.length)
    for (const { from, to } of this.#runs(shard)) roots.fill(1, from, to)
    return (place) => roots[place - shard.length] === 1
  }

  /** Where a shard meets what AdamW takes, counted from the shard's start, and where first moments begin that merge behind. */
  #runs(shard: Shard) {
    let behind = shard.length
    return this.#adamw.flatMap(({ offset, length: whole }) => {
      const from = Math.max(0, offset - shard.offset)
      const to = Math.min(shard.length, offset + whole - shard.offset)
      if (from >= to) return []
      const run = { from, to, length: to - from, behind }
      behind += run.length
      return [run]
    })
  }
}
