/** Owns the lanes that a simulated device trains, each from the shared weights on, and what must hold of their order. */
import type { Assignment } from '../../src/protocol/control.ts'
import { finalUpdates, innerSteps, laneMicrobatches, lanePlace, updateMicrobatches } from '../../src/protocol/lanes.ts'
import type { RunConfig } from '../../src/protocol/runConfig.ts'
import * as model from './integerModel.ts'
import { innerRate } from './localReference.ts'

interface Lane extends model.StageVectors {
  inner: number
  readonly gradient: number[]
  /** Microbatches that are in `gradient`. */
  summed: number
}

export interface FinalShards {
  readonly shards: readonly number[]
  readonly microbatches: readonly number[]
  /** Of the whole stage; of other shards it means nothing. */
  readonly change: readonly number[]
}

export class SimLanes {
  readonly #config: RunConfig
  readonly #stage: number
  readonly #lanes = new Map<number, Lane>()
  #entered: number | null = null

  constructor({ config, stage }: Pick<Assignment, 'config' | 'stage'>) {
    this.#config = config
    this.#stage = stage
  }

  clear(): void {
    this.#lanes.clear()
    this.#entered = null
  }

  enter(lane: number, shared: readonly number[]): void {
    this.#entered = lane
    if (this.#lanes.has(lane)) return
    const vectors = model.emptyVectors(this.#stage)
    const gradient = new Array<number>(shared.length).fill(0)
    this.#lanes.set(lane, { ...vectors, parameters: shared.slice(), inner: 0, gradient, summed: 0 })
  }

  /** The lane of a microbatch that is to be computed now. @throws Error when it is not on the device, or not that far */
  of(microbatch: number): Lane {
    const { lane, inner } = lanePlace(this.#config, microbatch)
    const found = this.#lanes.get(lane)
    if (!found || this.#entered !== lane) throw new Error(`microbatch ${microbatch}: lane ${lane} is not on the device`)
    if (found.inner !== inner)
      throw new Error(`microbatch ${microbatch} of inner step ${inner} is computed in inner step ${found.inner}`)
    return found
  }

  /** Takes the update; returns what the lane changed of each shard that is final by it, and all the lane's microbatches. */
  update(step: number, lane: number, shared: readonly number[], ranges: readonly model.Range[]): FinalShards {
    const found = this.#lanes.get(lane)
    if (!found || this.#entered !== lane) throw new Error(`lane ${lane} is updated and not on the device`)
    if (found.summed !== updateMicrobatches(this.#config))
      throw new Error(`lane ${lane} is updated with ${found.summed} microbatches in its gradient`)
    const rate = { lr: innerRate(this.#config, step, found.inner), scale: 1, step: found.inner + 1 }
    const final = ranges.map((_, shard) => finalUpdates(this.#config, { step, shard, shards: ranges.length }))
    ranges.forEach((range, shard) => {
      if (final[shard]! > found.inner) model.update(found, found.gradient, range, rate)
    })
    found.gradient.fill(0)
    found.summed = 0
    found.inner += 1
    if (found.inner === innerSteps(this.#config)) {
      this.#lanes.delete(lane)
      this.#entered = null
    }
    const each = laneMicrobatches(this.#config)
    const microbatches = Array.from({ length: each }, (_, k) => lane * each + k)
    const change = model.difference(shared, found.parameters)
    return { microbatches, change, shards: [...ranges.keys()].filter((shard) => final[shard] === found.inner) }
  }
}
