/** Owns the typed call of the AdamW update, and how moments are stored. */
import source from '../../../shaders/adamw/adamw.wgsl?raw'
import bf16Moments from '../../../shaders/adamw/moments_bf16.wgsl?raw'
import f32Moments from '../../../shaders/adamw/moments_f32.wgsl?raw'
import type { OptimizerConfig } from '../../protocol/runConfig.ts'
import type { BufferView } from '../buffers.ts'
import type { GpuContext } from '../device.ts'
import { createKernel, f32, spread, variable } from '../kernel.ts'
import type { Recording, UniformWord } from '../kernel.ts'

export type MomentStorage = OptimizerConfig['moments']

/** WGSL that goes before every kernel which reads or writes moments. */
export const MOMENTS_SOURCE: Readonly<Record<MomentStorage, string>> = { f32: f32Moments, bf16: bf16Moments }

export const MOMENT_BYTES: Readonly<Record<MomentStorage, number>> = { f32: 4, bf16: 2 }

/** A window that may be bound, and the elements of it that come before the range. */
export interface BoundRange {
  readonly view: BufferView
  readonly skip: number
}

const BINDING_ALIGNMENT = 256

/** Widens a window to where a binding may start; bf16 shards and joined tensors start anywhere. */
export function boundRange({ buffer, offset, size }: BufferView, bytesEach: number): BoundRange {
  const before = offset % BINDING_ALIGNMENT
  return { view: { buffer, offset: offset - before, size: size + before }, skip: before / bytesEach }
}

export interface UpdateStep {
  readonly lr: number
  /** Multiplies the gradient. */
  readonly scale: number
  /** From 1. */
  readonly step: number
}

/** What changes from step to step, as uniform words. */
export interface AdamwWords {
  readonly keep: UniformWord
  readonly stepSize: UniformWord
  readonly inverseBias2: UniformWord
  readonly scale: UniformWord
  readonly step: UniformWord
}

/** The words of a recording that is run every step with the values of {@link adamwScalars}. */
export const ADAMW_VARIABLES: AdamwWords = {
  keep: variable('optimizer.keep'),
  stepSize: variable('adamw.stepSize'),
  inverseBias2: variable('adamw.inverseBias2'),
  scale: variable('optimizer.scale'),
  step: variable('optimizer.step', 'u32'),
}

/** The values of {@link ADAMW_VARIABLES} for one step. */
export function adamwScalars(
  { beta1, beta2, weightDecay }: OptimizerConfig,
  { lr, scale, step }: UpdateStep,
): Record<string, number> {
  return {
    'optimizer.keep': 1 - lr * weightDecay,
    'adamw.stepSize': lr / (1 - beta1 ** step),
    'adamw.inverseBias2': 1 / Math.sqrt(1 - beta2 ** step),
    'optimizer.scale': scale,
    'optimizer.step': step,
  }
}

export interface AdamwKernels {
  /**
   * Updates `length` elements of `parameter` (f32) and of its moments (as stored); those below `decayLength` take weight
   * decay. `start` is the place of the first in the stage's flat vector, from which bf16 moments take their rounding;
   * `parameter` and `gradient` start where a binding may. The arithmetic is PyTorch's: decay first, epsilon outside the
   * square root. Throws a RangeError unless start and lengths are multiples of {@link ADAMW_BLOCK}.
   */
  record(
    recorder: Recording,
    tensors: { parameter: BufferView; gradient: BufferView; first: BufferView; second: BufferView },
    range: { start: number; length: number; decayLength: number },
    optimizer: OptimizerConfig,
    words?: AdamwWords,
  ): void
}

/** Ranges start and end at multiples of so many elements. */
export const ADAMW_BLOCK = 8

export interface AdamwOptions {
  readonly moments: MomentStorage
  /** vec4s an invocation, 1 or 2; chosen by the adapter by default. */
  readonly columns?: 1 | 2
}

export async function adamwKernels(gpu: GpuContext, { moments, columns }: AdamwOptions): Promise<AdamwKernels> {
  const each = columns ?? (gpu.adapter.software ? 2 : 1)
  const list = (of: (c: number) => string) => Array.from({ length: each }, (_, c) => of(c)).join(', ')
  const kernel = await createKernel(gpu, `adamw ${moments}`, MOMENTS_SOURCE[moments] + source, {
    COLUMNS: each,
    PARAMETERS: list((c) => `x${c}`),
    FIRST: list((c) => `packedLow(m${c}, noise${c})`),
    SECOND: list((c) => `packedHigh(v${c}, noise${c})`),
  })
  const blocks = (elements: number) => elements / (4 * each)
  return {
    record(recorder, tensors, { start, length, decayLength }, optimizer, words = ADAMW_VARIABLES) {
      const { parameter, gradient } = tensors
      const [first, second] = [tensors.first, tensors.second].map((view) => boundRange(view, MOMENT_BYTES[moments]))
      const decayed = Math.max(0, Math.min(decayLength, length))
      if ([start, length, decayed].some((n) => n % ADAMW_BLOCK !== 0) || first!.skip !== second!.skip) {
        throw new RangeError(`AdamW takes whole blocks of ${ADAMW_BLOCK}, not ${length} elements from ${start}.`)
      }
      const { beta1, beta2, eps } = optimizer
      const uniforms = [
        ...[blocks(length), blocks(decayed), blocks(first!.skip), start],
        ...[eps, beta1, beta2, 1 - beta1, 1 - beta2].map(f32),
        ...[words.keep, words.stepSize, words.inverseBias2, words.scale, words.step],
      ]
      const buffers = [gradient, parameter, first!.view, second!.view]
      recorder.dispatch(kernel, uniforms, buffers, spread(Math.ceil(blocks(length) / 64)))
    },
  }
}
