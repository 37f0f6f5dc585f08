/** Owns the distribution of distances between honest devices, and the tolerances that follow from it. */
import type { Distances } from '../../../src/audit/compare.ts'
import {
  precisionOf,
  TENSOR_KINDS,
  type DeviceClass,
  type Precision,
  type TensorKind,
} from '../../../src/audit/tolerances.ts'
import { compareEvidence } from '../../../server/audits/evidence.ts'
import type { Evidence } from '../../../server/audits/types.ts'
import type { NumberCodec } from '../../../src/codec/size.ts'
import type { Answered, Archive } from './archive.ts'
import { updateEvidence, workEvidence, type Storage } from './evidence.ts'

/** What one party claims and the other recomputes: the same codec everywhere, halves rounded this way or that. */
const STORAGES: readonly Storage[] = [
  { codec: 'f32', rounding: 'nearest' },
  { codec: 'f16', rounding: 'nearest' },
  { codec: 'f16', rounding: 'down' },
  { codec: 'int8', rounding: 'nearest' },
  { codec: 'int4', rounding: 'nearest' },
  { codec: 'int4', rounding: 'down' },
]

const SEEDS = [
  [1, 2],
  [0x9e3779b9, 0x7f4a7c15],
  [0xdeadbeef, 0x12345678],
] as const

/** The distances of all honest pairs that share kind, codec, precision and whether the adapter is the same. */
export interface PairClass {
  readonly kind: TensorKind
  readonly codec: NumberCodec
  readonly precision: Precision
  readonly adapters: 'one adapter' | 'two adapters'
  /** Two of these devices. */
  readonly pair: readonly [DeviceClass, DeviceClass]
  readonly distances: Distances[]
}

const sameAdapter = (a: DeviceClass, b: DeviceClass) => a.vendor === b.vendor && a.architecture === b.architecture

/** Every ordered pair of two different classes of the archive, at every stage, point and microbatch, under three seeds. */
export function pairClasses({ recording, answered }: Archive): PairClass[] {
  const classes = new Map<string, PairClass>()
  const note = (found: Partial<Record<TensorKind, Distances>>, a: Answered, b: Answered, codec: NumberCodec) => {
    const precision = precisionOf([a.device, b.device])
    const adapters = sameAdapter(a.device, b.device) ? 'one adapter' : 'two adapters'
    for (const [kind, distances] of Object.entries(found) as [TensorKind, Distances][]) {
      const key = `${kind} ${codec} ${precision} ${adapters}`
      const known = classes.get(key)
      if (known) known.distances.push(distances)
      else classes.set(key, { kind, codec, precision, adapters, pair: [a.device, b.device], distances: [distances] })
    }
  }
  const compareAll = (
    evidence: readonly (readonly Evidence[])[],
    storages: readonly Storage[],
    pick: (own: Evidence) => Evidence,
  ) => {
    for (const [i, claimed] of evidence.entries()) {
      for (const [j, recomputed] of evidence.entries()) {
        const [a, b] = [answered[i]!, answered[j]!]
        for (const [x, from] of storages.entries()) {
          for (const [y, to] of storages.entries()) {
            if (from.codec !== to.codec || (i === j && x === y)) continue
            const pair = [a.device, b.device] as const
            note(compareEvidence(claimed[x]!, pick(recomputed[y]!), pair, from.codec).distances, a, b, from.codec)
          }
        }
      }
    }
  }
  for (const [s, stage] of recording.stages.entries()) {
    for (const seed of SEEDS) {
      for (const [m, question] of stage.questions.entries()) {
        const evidence = answered.map(({ stages }) => {
          const answer = stages[s]!.microbatches[m]!
          return STORAGES.map((storage) => workEvidence(answer, question, stage, recording.config, storage, seed))
        })
        compareAll(evidence, STORAGES, (own) => own)
      }
      const updates = answered.map(({ stages }) => [updateEvidence(stages[s]!, stage, seed)])
      compareAll(updates, STORAGES.slice(0, 1), (own) => own)
    }
  }
  const order = ({ kind, codec, precision, adapters }: PairClass) =>
    `${TENSOR_KINDS.indexOf(kind)} ${codec} ${precision} ${adapters}`
  return [...classes.values()].sort((a, b) => (order(a) < order(b) ? -1 : 1))
}

export const largestOf = (distances: readonly Distances[]): Distances => {
  const most = (name: keyof Distances) => distances.reduce((largest, found) => Math.max(largest, found[name]), 0)
  return { median: most('median'), upper: most('upper'), largest: most('largest') }
}

/** Over the largest distance that honest devices were seen to have. */
const MARGIN = 3
/** Below this a tolerance buys nothing: every lie moves a tensor by hundreds of times as much. */
const LEAST = 5e-5

export type Tolerances = Record<string, Record<string, Distances>>

const roundedUp = (x: number) =>
  Number((Math.ceil((x / 10 ** Math.floor(Math.log10(x))) * 10) / 10).toFixed(1)) * 10 ** Math.floor(Math.log10(x))

/**
 * For each precision, and each kind and codec within it, {@link MARGIN} times the largest quantiles seen between any two
 * classes, whichever their adapters. What a codec does not touch has one tolerance for all codecs. Under int8 and int4 a row has a
 * value that fell to the other side of a step, or has none; how many rows have grows with the width, so its quantiles share
 * the largest.
 */
export function tolerancesFrom(classes: readonly PairClass[]): Tolerances {
  const found: Tolerances = {}
  for (const precision of ['f32', 'f16'] as const) {
    for (const kind of TENSOR_KINDS) {
      const boundary = kind === 'activation' || kind === 'inputGradient'
      for (const codec of boundary ? (['f32', 'f16', 'int8', 'int4'] as const) : (['f32'] as const)) {
        const seen = classes.filter((one) => one.precision === precision && one.kind === kind && one.codec === codec)
        if (seen.length === 0) continue
        const most = largestOf(seen.flatMap(({ distances }) => distances))
        const tolerance = (x: number) => Number(roundedUp(Math.max(LEAST, MARGIN * x)).toPrecision(2))
        const largest = tolerance(most.largest)
        found[precision] ??= {}
        found[precision][boundary ? `${kind} ${codec}` : kind] =
          codec === 'int8' || codec === 'int4'
            ? { median: largest, upper: largest, largest }
            : { median: tolerance(most.median), upper: tolerance(most.upper), largest }
      }
    }
  }
  return found
}
