/** Owns a stage's four flat vectors on the GPU, and what is done to them between two steps: reduce and update. */
import type { GpuContext } from '../gpu/device.ts'
import type { Recorder } from '../gpu/kernel.ts'
import type { Shard } from '../protocol/routing.ts'
import type { OptimizerConfig } from '../protocol/runConfig.ts'
import type { UpdateParameters, VectorKind } from '../stage/model.ts'
import { FlatVector } from './flatVector.ts'
import type { StageLayout } from './layout.ts'
import type { StageKernels } from './stageKernels.ts'

export type StageVectors = Readonly<Record<VectorKind | 'gradients', FlatVector>>

/** Lends the four vectors, all zero once the recorder is submitted. Throws `gpu.limits`. */
export function lendVectors(gpu: GpuContext, layout: StageLayout, recorder: Recorder): StageVectors {
  const most = Math.min(gpu.limits.maxStorageBufferBindingSize, gpu.limits.maxBufferSize)
  const vector = (label: string) => {
    const lent = new FlatVector(gpu.pool, layout, most, label)
    lent.clear(recorder)
    return lent
  }
  return {
    parameters: vector('parameters'),
    gradients: vector('gradients'),
    firstMoment: vector('first moment'),
    secondMoment: vector('second moment'),
  }
}

export function releaseVectors(vectors: StageVectors): void {
  for (const vector of Object.values(vectors)) vector.release()
}

/** Replaces the gradient over `range` by the sum of `contributions` in their order; resolves to its squared norm. */
export async function reduceContributions(
  gpu: GpuContext,
  { reduce }: StageKernels,
  recorder: Recorder,
  gradients: FlatVector,
  range: Shard,
  contributions: readonly Float32Array[],
): Promise<number> {
  const [first, ...others] = contributions
  for (const { length } of contributions) {
    if (length !== range.length) throw new RangeError(`${length} values for a range of ${range.length}.`)
  }
  const pieces = gradients.pieces(range)
  if (first) gradients.write(range.offset, first)
  for (const values of others) {
    for (const { view, start, length } of pieces) {
      const part = values.subarray(start - range.offset, start - range.offset + length)
      const addend = gpu.pool.upload(part, 'contribution')
      reduce.accumulate(recorder, addend, view, length)
      // Submitted before the buffer may be lent and written again.
      recorder.submit()
      gpu.pool.release(addend)
    }
  }
  const norms = pieces.map(({ view, length }) => reduce.squaredNorm(recorder, view, length))
  recorder.submit()
  return (await Promise.all(norms)).reduce((sum, norm) => sum + norm, 0)
}

/** Records AdamW over `range`. */
export function recordUpdate(
  { adamw }: StageKernels,
  recorder: Recorder,
  vectors: StageVectors,
  range: Shard,
  decayLength: number,
  optimizer: OptimizerConfig,
  step: UpdateParameters,
): void {
  const gradient = vectors.gradients.pieces(range)
  const first = vectors.firstMoment.pieces(range)
  const second = vectors.secondMoment.pieces(range)
  vectors.parameters.pieces(range).forEach(({ view, start, length }, i) => {
    const tensors = {
      parameter: view,
      gradient: gradient[i]!.view,
      first: first[i]!.view,
      second: second[i]!.view,
    }
    adamw.update(recorder, tensors, { length, decayLength: decayLength - start }, optimizer, step)
  })
}
