/** Owns a stage's four flat vectors on the GPU, and what is done to them between two steps: reduce and update. */
import type { GpuContext } from '../gpu/device.ts'
import type { Recorder } from '../gpu/recorder.ts'
import { squarePartials } from '../gpu/kernels/reduce.ts'
import type { Shard } from '../protocol/routing.ts'
import type { OptimizerConfig } from '../protocol/runConfig.ts'
import type { UpdateParameters } from '../stage/model.ts'
import { FlatVector } from './flatVector.ts'
import type { StageLayout } from './layout.ts'
import { MomentVector } from './optimizerMoments.ts'
import { adamwRuns } from './optimizerShards.ts'
import type { StageKernels } from './stageKernels.ts'
import type { StagePlans } from './stagePlans.ts'

export interface StageVectors {
  readonly parameters: FlatVector
  readonly gradients: FlatVector
  readonly firstMoment: MomentVector
  readonly secondMoment: MomentVector
}

/** Lends the four vectors, all zero once the recorder is submitted. Throws `gpu.limits`. */
export function lendVectors(
  gpu: GpuContext,
  layout: StageLayout,
  optimizer: OptimizerConfig,
  recorder: Recorder,
): StageVectors {
  const most = Math.min(gpu.limits.maxStorageBufferBindingSize, gpu.limits.maxBufferSize)
  const { moments: storage } = optimizer
  const [whole, withSecond] = [[{ offset: 0, length: layout.length }], adamwRuns(layout, optimizer)]
  const vectors = {
    parameters: new FlatVector(gpu.pool, layout, most, 'parameters'),
    gradients: new FlatVector(gpu.pool, layout, most, 'gradients'),
    firstMoment: new MomentVector(gpu.pool, layout, { storage, held: whole }, most, 'first moment'),
    secondMoment: new MomentVector(gpu.pool, layout, { storage, held: withSecond }, most, 'second moment'),
  }
  for (const vector of Object.values(vectors)) vector.clear(recorder)
  return vectors
}

export function releaseVectors(vectors: StageVectors): void {
  for (const vector of Object.values(vectors)) vector.release()
}

/** Replaces the gradient over `range` by the sum of `contributions` in their order; resolves to its squared norm. */
export async function reduceContributions(
  gpu: GpuContext,
  { reduce }: StageKernels,
  plans: StagePlans,
  gradients: FlatVector,
  range: Shard,
  contributions: readonly Float32Array[],
): Promise<number> {
  for (const { length } of contributions) {
    if (length !== range.length) throw new RangeError(`${length} values for a range of ${range.length}.`)
  }
  const [first, ...others] = contributions
  const pieces = gradients.pieces(range)
  if (first) gradients.write(range.offset, first)
  for (const values of others) {
    for (const { view, start, length } of pieces) {
      const adding = plans.get(`add ${start} ${length}`, (recorder) => {
        const addend = recorder.input(length * 4, 'contribution')
        reduce.accumulate(recorder, addend, view, length)
        return { inputs: addend, reads: [] }
      })
      gpu.pool.write(adding.inputs, values.subarray(start - range.offset, start - range.offset + length))
      await plans.run(adding)
    }
  }
  const norm = plans.get(`norm ${range.offset} ${range.length}`, (recorder) => {
    const partials = pieces.map(({ view, length }) => {
      const size = squarePartials(length) * 4
      const partial = { ...recorder.scratch(size, 'squares'), size }
      reduce.squares(recorder, { values: view, partial }, length)
      return partial
    })
    return { inputs: null, reads: partials }
  })
  // In f64 and in a fixed order, as on the GPU: equal values give equal bits on one adapter.
  let squared = 0
  for (const bytes of await plans.run(norm)) for (const part of new Float32Array(bytes)) squared += part
  return squared
}

/** Overwrites the gradient over `range`, by zeros without `values`. */
export function restoreRange(gradients: FlatVector, range: Shard, values: Float32Array | null): void {
  if (values && values.length !== range.length) {
    throw new RangeError(`${values.length} values for a range of ${range.length}.`)
  }
  if (range.length > 0) gradients.write(range.offset, values ?? new Float32Array(range.length))
}

/** The optimizer's update over `range`. */
export async function updateRange(
  { optimizer }: StageKernels,
  plans: StagePlans,
  vectors: StageVectors,
  range: Shard,
  step: UpdateParameters,
): Promise<void> {
  const updating = plans.get(`update ${range.offset} ${range.length}`, (recorder) => {
    optimizer.record(recorder, vectors, range)
    return { inputs: null, reads: [] }
  })
  await plans.run(updating, optimizer.scalars(step))
}
