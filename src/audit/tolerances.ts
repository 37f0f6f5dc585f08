/** Owns how far the tensors of two honest devices may be apart: by tensor, codec and precision, from honest pairs. */
import type { CodecName } from '../protocol/runConfig.ts'
import type { Distances } from './compare.ts'

/**
 * What of a receipt's work is compared. `activation` and `inputGradient` token by token, as they are sent;
 * `parameterGradient`, a replica's contribution to the merge, and `update`, what the owners of a shard made of all
 * contributions (in learning rates), tensor by tensor; `loss` microbatch by microbatch.
 */
export const TENSOR_KINDS = ['activation', 'inputGradient', 'parameterGradient', 'update', 'loss'] as const
export type TensorKind = (typeof TENSOR_KINDS)[number]

/** What decides how a device rounds. */
export interface DeviceClass {
  /** The adapter's, as WebGPU tells them. */
  readonly vendor: string
  readonly architecture: string
  /** Whether it rounds the operands of products to halves. */
  readonly products: 'f32' | 'f16'
}

/** Of a pair: `f16` where one of both rounds the operands of products to halves. */
export type Precision = 'f32' | 'f16'

export const precisionOf = ([a, b]: readonly [DeviceClass, DeviceClass]): Precision =>
  a.products === 'f16' || b.products === 'f16' ? 'f16' : 'f32'

const all = (most: number): Distances => ({ median: most, upper: most, largest: most })

type Table = Readonly<
  Record<`${'activation' | 'inputGradient'} ${CodecName}` | 'parameterGradient' | 'loss', Distances>
>

/**
 * Three times the largest distance of any honest pair, 5e-5 at the least: what `npm run bench -- audit` found among twelve
 * classes (ten kernel choices on SwiftShader, one on Mesa's llvmpipe, one there in halves) on three stages at three points of
 * a training run, halves rounded to the nearest and down. Two adapters were no further apart than two kernels of one. Kernels
 * alone differ by 2e-6; what is more comes of codecs, which turn a last bit into a step, and of halves. Lies are caught by
 * the parameter gradient, which no codec touches: the smallest, weights one step old, moves its median by 1e-2.
 *
 * Of int4 only pairs of kernels in f32 were measured; products in halves are given the same and no less than int8's times six,
 * where not one value of a row but several fall to the other side and 18 times fewer do. A bottleneck's code, the output of two
 * more small products, is given what its carrier has.
 */
const SEEN: Readonly<Record<Precision, Table>> = {
  f32: {
    'activation f32': all(5e-5),
    'activation f16': { median: 8.6e-3, upper: 1.8e-2, largest: 3.8e-2 },
    'activation int8': all(2.4e-2),
    'activation int4': all(1.1),
    'activation bottleneck-f32': all(5e-5),
    'activation bottleneck-f16': { median: 8.6e-3, upper: 1.8e-2, largest: 3.8e-2 },
    'inputGradient f32': all(5e-5),
    'inputGradient f16': { median: 1.7e-3, upper: 2.3e-3, largest: 3.1e-3 },
    'inputGradient int8': all(1.2e-2),
    'inputGradient int4': all(0.37),
    'inputGradient bottleneck-f32': all(5e-5),
    'inputGradient bottleneck-f16': { median: 1.7e-3, upper: 2.3e-3, largest: 3.1e-3 },
    parameterGradient: all(5e-5),
    loss: all(5e-5),
  },
  f16: {
    'activation f32': { median: 1.4e-3, upper: 2e-3, largest: 2.5e-3 },
    'activation f16': { median: 9.1e-3, upper: 1.9e-2, largest: 3.8e-2 },
    'activation int8': all(8.6e-2),
    'activation int4': all(1.1),
    'activation bottleneck-f32': { median: 1.4e-3, upper: 2e-3, largest: 2.5e-3 },
    'activation bottleneck-f16': { median: 9.1e-3, upper: 1.9e-2, largest: 3.8e-2 },
    'inputGradient f32': { median: 1.3e-3, upper: 2.2e-3, largest: 3.6e-3 },
    'inputGradient f16': { median: 2.1e-3, upper: 3e-3, largest: 5e-3 },
    'inputGradient int8': all(2.6e-2),
    'inputGradient int4': all(0.5),
    'inputGradient bottleneck-f32': { median: 1.3e-3, upper: 2.2e-3, largest: 3.6e-3 },
    'inputGradient bottleneck-f16': { median: 2.1e-3, upper: 3e-3, largest: 5e-3 },
    parameterGradient: { median: 2.1e-3, upper: 1.2e-2, largest: 1.3e-2 },
    loss: all(5e-5),
  },
}

/** As src/stage/agreement.ts has it, where its reasons are; halves count where the optimizer multiplies matrices. */
const UPDATE: Readonly<Record<Precision, Distances>> = { f32: all(2e-3), f16: all(1e-1) }

/** Adapters whose pairs were measured. */
const CALIBRATED = new Set(['google swiftshader', 'mesa software'])

/**
 * WGSL lets an adapter be off by some units in the last place wherever it divides, takes roots or exponentials; one that was
 * never measured is given ten times the least tolerance, and twice what was seen of codecs and halves.
 */
const UNSEEN = { factor: 2, least: 5e-4 }

export const isCalibrated = ({ vendor, architecture }: DeviceClass): boolean =>
  CALIBRATED.has(`${vendor} ${architecture}`)

/** For a pair of devices, in whichever order; the codec is the run's. */
export function toleranceOf(
  kind: TensorKind,
  codec: CodecName,
  classes: readonly [DeviceClass, DeviceClass],
): Distances {
  const precision = precisionOf(classes)
  if (kind === 'update') return UPDATE[precision]
  const key = kind === 'parameterGradient' || kind === 'loss' ? kind : (`${kind} ${codec}` as const)
  const seen = SEEN[precision][key]
  if (classes.every(isCalibrated)) return seen
  const widened = (x: number) => Math.max(UNSEEN.least, UNSEEN.factor * x)
  return { median: widened(seen.median), upper: widened(seen.upper), largest: widened(seen.largest) }
}
