/** Owns what everybody in the liars' world says under oath: sketches of recorded tensors, made once for each seed of a pool. */
import type { SketchSeed } from '../../../src/audit/sketch.ts'
import type { DeviceClass } from '../../../src/audit/tolerances.ts'
import { carrierOf } from '../../../src/codec/boundary.ts'
import type { CodecName } from '../../../src/protocol/runConfig.ts'
import type { Evidence } from '../../../server/audits/types.ts'
import type { Archive } from '../../bench/audit/archive.ts'
import { updateEvidence, workEvidence, type Rounding } from '../../bench/audit/evidence.ts'
import { lieAbout, type Lie } from './lies.ts'

/** A device of the world: kernels and adapter it computes with, how it rounds to halves, and what it lies about. */
export interface Character {
  /** Place in the archive's `answered`. */
  readonly kernels: number
  readonly rounding: Rounding
  readonly lie: Lie | null
}

export interface Witnesses {
  readonly kernelCount: number
  readonly stageCount: number
  readonly pointCount: number
  readonly microbatchCount: number
  classOf(character: Character): DeviceClass
  /** Of one microbatch at one stage and point of training. */
  work(
    character: Character,
    stage: number,
    point: number,
    microbatch: number,
    codec: CodecName,
    seed: SketchSeed,
  ): Evidence
  update(character: Character, stage: number, point: number, seed: SketchSeed): Evidence
}

export function witnessesFrom({ recording, answered, lies = {} }: Archive): Witnesses {
  const { config, stages } = recording
  const cache = new Map<string, Evidence>()
  const once = (key: string, make: () => Evidence) => {
    let found = cache.get(key)
    if (!found) cache.set(key, (found = make()))
    return found
  }
  const placeOf = (stage: number, point: number) => point * config.stages + stage
  return {
    kernelCount: answered.length,
    stageCount: config.stages,
    pointCount: stages.length / config.stages,
    microbatchCount: stages[0]!.questions.length,
    classOf: ({ kernels }) => answered[kernels]!.device,
    work({ kernels, rounding, lie }, stage, point, microbatch, codec, seed) {
      const place = placeOf(stage, point)
      const key = `${kernels} ${codec === 'f16' ? rounding : ''} ${lie} ${place} ${microbatch} ${codec} ${seed.join()}`
      return once(key, () => {
        const recorded = stages[place]!
        const honest = answered[kernels]!.stages[place]!
        const answer = lie
          ? lieAbout(lie, recorded, microbatch, honest, lies[lie]?.stages[place])
          : honest.microbatches[microbatch]!
        const question = recorded.questions[microbatch]!
        return workEvidence(answer, question, recorded, config, { codec: carrierOf(codec), rounding }, seed)
      })
    },
    update({ kernels, lie }, stage, point, seed) {
      const place = placeOf(stage, point)
      const colludes = lie === 'colluding owners'
      const answers = (colludes ? lies[lie]! : answered[kernels]!).stages[place]!
      return once(`update ${colludes || kernels} ${place} ${seed.join()}`, () =>
        updateEvidence(answers, stages[place]!, seed),
      )
    },
  }
}
