/**
 * Owns the moments from which lanes begin where they share them: what of an optimizer's moments is merged, in one vector.
 *
 * A lane's gradients are noisier than the whole batch's, so that updates of a fixed size, as Muon's are, go less far along what
 * the lanes have in common. So Muon's matrices begin from the mean of the lanes' momentum, which takes much of that noise out.
 * What AdamW takes beside them begins from the second moment, without which its first updates are as long however small the
 * gradient; its first moment begins at zero, and a lane soon has its own.
 */
import type { Kept } from '../../codec/groups.ts'
import type { Shard } from '../../protocol/routing.ts'
import type { OptimizerConfig } from '../../protocol/runConfig.ts'
import type { StageLayout } from '../layout.ts'
import { adamwRuns } from '../optimizerShards.ts'

type Floats = Float32Array<ArrayBuffer>

export interface OptimizerMoments {
  readonly firstMoment: Floats
  readonly secondMoment: Floats
}

export class LaneMoments {
  readonly #adamw: readonly Shard[]

  constructor(layout: StageLayout, optimizer: Pick<OptimizerConfig, 'kind'>) {
    this.#adamw = adamwRuns(layout, optimizer)
  }

  /** As they merge: Muon's momentum, and the root of AdamW's second moment, which has fewer magnitudes to be sent in few bits. */
  packed({ firstMoment, secondMoment }: OptimizerMoments): Floats {
    const packed = firstMoment.slice()
    this.#each((i) => (packed[i] = Math.sqrt(secondMoment[i]!)))
    return packed
  }

  /** As a lane begins from them. */
  unpacked(packed: Float32Array): OptimizerMoments {
    const [firstMoment, secondMoment] = [packed.slice(), new Float32Array(packed.length)]
    this.#each((i) => {
      firstMoment[i] = 0
      secondMoment[i] = packed[i]! ** 2
    })
    return { firstMoment, secondMoment }
  }

  /**
   * Of a shard's change with its packed moments behind it, the roots: if one became zero in few bits, AdamW would divide by
   * next to nothing.
   */
  kept({ offset, length }: Shard): Kept {
    const roots = new Uint8Array(length)
    for (const run of this.#adamw) {
      const from = Math.max(0, run.offset - offset)
      roots.fill(1, from, Math.max(from, run.offset + run.length - offset))
    }
    return (place) => roots[place - length] === 1
  }

  #each(visit: (place: number) => void): void {
    for (const { offset, length } of this.#adamw) for (let i = offset; i < offset + length; i++) visit(i)
  }
}
