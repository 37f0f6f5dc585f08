/** Owns the typed call of the Muon update of one matrix. */
import applySource from '../../../shaders/muon/apply.wgsl?raw'
import inverseNormSource from '../../../shaders/muon/inverse_norm.wgsl?raw'
import momentumSource from '../../../shaders/muon/momentum.wgsl?raw'
import normalizeSource from '../../../shaders/muon/normalize.wgsl?raw'
import polynomialSource from '../../../shaders/muon/polynomial.wgsl?raw'
import type { OptimizerConfig } from '../../protocol/runConfig.ts'
import type { Matmul } from '../autotune.ts'
import type { BufferView, PooledBuffer } from '../buffers.ts'
import type { GpuContext } from '../device.ts'
import { createKernel, f32, spread, variable } from '../kernel.ts'
import type { Recording, UniformWord } from '../kernel.ts'
import { MOMENTS_SOURCE, MOMENT_BYTES, boundRange } from './adamw.ts'
import type { BoundRange, MomentStorage, UpdateStep } from './adamw.ts'
import type { MatmulShape } from './matmul.ts'

/** Jordan et al. 2024: steep at zero, so that five steps bring every singular value near one. */
export const NEWTON_SCHULZ = { a: 3.4445, b: -4.775, c: 2.0315, steps: 5, eps: 1e-7 } as const

/** Liu et al. 2025 (Moonlight): gives the update the root mean square of AdamW's, so that rate and decay carry over. */
export function muonFactor(rows: number, columns: number): number {
  return 0.2 * Math.sqrt(Math.max(rows, columns))
}

/** What changes from step to step, as uniform words. */
export interface MuonWords {
  readonly keep: UniformWord
  readonly rate: UniformWord
  readonly scale: UniformWord
  readonly step: UniformWord
}

/** The words of a recording that is run every step with the values of {@link muonScalars}. */
export const MUON_VARIABLES: MuonWords = {
  keep: variable('optimizer.keep'),
  rate: variable('optimizer.rate'),
  scale: variable('optimizer.scale'),
  step: variable('optimizer.step', 'u32'),
}

/** The values of {@link MUON_VARIABLES} for one step. */
export function muonScalars({ weightDecay }: OptimizerConfig, { lr, scale, step }: UpdateStep): Record<string, number> {
  return {
    'optimizer.keep': 1 - lr * weightDecay,
    'optimizer.rate': lr,
    'optimizer.scale': scale,
    'optimizer.step': step,
  }
}

/** A plan is told the multiply-adds, so that it can submit in between. */
type MuonRecording = Recording & { spent?(multiplyAdds: number): void }

export interface MuonKernels {
  /**
   * Updates one matrix `parameter` [rows, columns] (f32) and its momentum (as stored) from `gradient` (f32). The views need
   * not start where a binding may. `start` is the matrix's place in the stage's flat vector, from which a bf16 momentum
   * takes its rounding. Norms are summed in a fixed order; five Newton-Schulz steps iterate on the smaller side.
   */
  record(
    recorder: MuonRecording,
    tensors: { parameter: BufferView; gradient: BufferView; momentum: BufferView },
    matrix: { rows: number; columns: number; start: number },
    optimizer: OptimizerConfig,
    words?: MuonWords,
  ): void
}

/** The three products of a Newton-Schulz step: X·Xᵀ or Xᵀ·X, its square, and the next X. For the autotuner too. */
export function muonProducts(rows: number, columns: number): Record<'gram' | 'square' | 'next', MatmulShape> {
  const side = Math.min(rows, columns)
  return {
    gram: { form: rows <= columns ? 'nt' : 'tn', m: side, n: side, k: Math.max(rows, columns) },
    square: { form: 'nn', m: side, n: side, k: side },
    next: { form: 'nn', m: rows, n: columns, k: side },
  }
}

export interface MuonOptions {
  readonly moments: MomentStorage
  /** Must know the {@link muonProducts} of every matrix. */
  readonly matmul: Matmul
  /** How norms are summed: by few invocations on software adapters, whose barriers are slow, else by many. */
  readonly sums?: keyof typeof SUMS
}

const SUMS = { few: { lanes: 1, partials: 256 }, many: { lanes: 256, partials: 16_384 } } as const

export async function muonKernels(gpu: GpuContext, { moments, matmul, sums }: MuonOptions): Promise<MuonKernels> {
  const { lanes, partials: mostPartials } = SUMS[sums ?? (gpu.adapter.software ? 'few' : 'many')]
  const [momentum, inverseNorm, normalize, polynomial, apply] = await Promise.all([
    createKernel(gpu, `muon momentum ${moments}`, MOMENTS_SOURCE[moments] + momentumSource),
    createKernel(gpu, 'muon inverse norm', inverseNormSource, { LANES: lanes }),
    createKernel(gpu, 'muon normalize', normalizeSource),
    createKernel(gpu, 'muon polynomial', polynomialSource),
    createKernel(gpu, 'muon apply', applySource),
  ])
  const overVectors = (length: number) => spread(Math.ceil(length / 256))

  /** The direction made orthogonal; the buffer of it is the caller's to release. */
  function orthogonal(recorder: MuonRecording, start: PooledBuffer, rows: number, columns: number): PooledBuffer {
    const { gram, square, next } = muonProducts(rows, columns)
    const side = square.m
    const [a, b, c] = [f32(NEWTON_SCHULZ.a), f32(NEWTON_SCHULZ.b), f32(NEWTON_SCHULZ.c)]
    const [gramBuffer, squareBuffer] = [1, 2].map(() => recorder.scratch(side * side * 4, 'newton-schulz')) as [
      PooledBuffer,
      PooledBuffer,
    ]
    let x = start
    let other = recorder.scratch(rows * columns * 4, 'newton-schulz')
    const multiply = (shape: MatmulShape, a: BufferView, b: BufferView, c: BufferView) => {
      matmul.record(recorder, shape, { a, b, c })
      recorder.spent?.(shape.m * shape.n * shape.k)
    }
    for (let step = 0; step < NEWTON_SCHULZ.steps; step++) {
      multiply(gram, x, x, gramBuffer)
      multiply(square, gramBuffer, gramBuffer, squareBuffer)
      recorder.dispatch(polynomial, [side, a, b, c], [gramBuffer, squareBuffer], overVectors(side * side))
      const [left, right] = rows <= columns ? [squareBuffer, x] : [x, squareBuffer]
      multiply(next, left, right, other)
      ;[x, other] = [other, x]
    }
    recorder.release(gramBuffer, squareBuffer, other)
    return x
  }

  return {
    record(recorder, tensors, { rows, columns, start }, optimizer, words = MUON_VARIABLES) {
      const length = rows * columns
      const partials = Math.min(mostPartials, Math.ceil(length / 4))
      const within = (view: BufferView, bytes: number) => windowOn(recorder, view, length, bytes)
      const [gradient, moment] = [within(tensors.gradient, 4), within(tensors.momentum, MOMENT_BYTES[moments])]
      const direction = recorder.scratch(length * 4, 'muon direction')
      const [partial, inverse] = [recorder.scratch(partials * 4, 'muon norm'), recorder.scratch(4, 'muon norm')]
      const mix = [f32(optimizer.momentum), f32(1 - optimizer.momentum)]
      recorder.dispatch(
        momentum,
        [length, partials, gradient.skip, moment.skip, start, ...mix, words.scale, words.step],
        [gradient.view, moment.view, direction, partial],
        [Math.ceil(partials / 64)],
      )
      moment.finish()
      gradient.drop()
      recorder.dispatch(inverseNorm, [partials, f32(NEWTON_SCHULZ.eps)], [partial, inverse], [1])
      recorder.dispatch(normalize, [Math.ceil(length / 4)], [inverse, direction], overVectors(length))
      recorder.release(partial, inverse)
      const x = orthogonal(recorder, direction, rows, columns)
      const parameter = within(tensors.parameter, 4)
      const uniforms = [length, parameter.skip, f32(muonFactor(rows, columns)), words.rate, words.keep]
      recorder.dispatch(apply, uniforms, [x, parameter.view], overVectors(length))
      parameter.finish()
      recorder.release(x)
    },
  }
}

interface Window extends BoundRange {
  /** Writes a copy back and releases it. */
  finish(): void
  /** Only releases a copy. */
  drop(): void
}

/** A matrix where it lies if it lies in whole vec4s, else a copy of it. `skip` counts vec4s. */
function windowOn(recorder: Recording, matrix: BufferView, length: number, bytesEach: number): Window {
  const { view, skip } = boundRange(matrix, bytesEach)
  if (skip % 4 === 0 && length % 4 === 0) return { view, skip: skip / 4, finish() {}, drop() {} }
  const bytes = length * bytesEach
  const copy = recorder.scratch(bytes, 'muon copy')
  recorder.copy(matrix, copy, bytes)
  const drop = () => recorder.release(copy)
  const finish = () => {
    recorder.copy(copy, matrix, bytes)
    drop()
  }
  return { view: copy, skip: 0, finish, drop }
}
