/** Owns the update of a stage: which kernels walk which tensors of a range, and the scalars that change from step to step. */
import type { Matmul } from '../gpu/autotune.ts'
import type { BufferView } from '../gpu/buffers.ts'
import type { GpuContext } from '../gpu/device.ts'
import type { Recording } from '../gpu/kernel.ts'
import { adamwKernels, adamwScalars } from '../gpu/kernels/adamw.ts'
import type { MatmulShape } from '../gpu/kernels/matmul.ts'
import { muonKernels, muonProducts, muonScalars } from '../gpu/kernels/muon.ts'
import type { Shard } from '../protocol/routing.ts'
import type { OptimizerConfig } from '../protocol/runConfig.ts'
import type { UpdateParameters } from '../stage/model.ts'
import type { Piece } from './flatVector.ts'
import type { StageLayout, TensorSpec } from './layout.ts'
import { adamwRuns, takesMuon } from './optimizerShards.ts'

interface Vector {
  pieces(range: Shard): Piece[]
}

/** What an update reads and writes. */
export interface UpdatedVectors {
  readonly parameters: Vector
  readonly gradients: Vector
  readonly firstMoment: Vector
  readonly secondMoment: Vector
}

export interface StageOptimizer {
  /**
   * Records the update of one range, to be run with the values of `scalars`. Throws a RangeError if a matrix that Muon
   * takes lies in the range only in part.
   */
  record(recorder: Recording, vectors: UpdatedVectors, range: Shard): void
  /** The variables of one step. */
  scalars(step: UpdateParameters): Record<string, number>
}

/** Compiles. `matmul` must know {@link optimizerProducts}. */
export async function stageOptimizer(
  gpu: GpuContext,
  config: OptimizerConfig,
  layout: StageLayout,
  matmul: Matmul,
): Promise<StageOptimizer> {
  const { moments } = config
  const adamw = await adamwKernels(gpu, { moments })
  const muon = config.kind === 'muon' ? await muonKernels(gpu, { moments, matmul }) : null
  const matrices = layout.tensors.filter((tensor) => takesMuon(config, tensor))
  const runs = adamwRuns(layout, config)

  function recordAdamw(recorder: Recording, vectors: UpdatedVectors, range: Shard): void {
    const others = [vectors.gradients, vectors.firstMoment, vectors.secondMoment].map((vector) => vector.pieces(range))
    vectors.parameters.pieces(range).forEach(({ view, start, length }, i) => {
      const [gradient, first, second] = others.map((pieces) => pieces[i]!.view) as [BufferView, BufferView, BufferView]
      const tensors = { parameter: view, gradient, first, second }
      adamw.record(recorder, tensors, { start, length, decayLength: layout.decayLength - start }, config)
    })
  }

  function recordMuon(recorder: Recording, vectors: UpdatedVectors, { shape, offset, length }: TensorSpec): void {
    const view = (vector: Vector) => vector.pieces({ offset, length })[0]!.view
    const { parameters, gradients, firstMoment } = vectors
    const tensors = { parameter: view(parameters), gradient: view(gradients), momentum: view(firstMoment) }
    const [rows, columns] = shape as [number, number]
    muon!.record(recorder, tensors, { rows, columns, start: offset }, config)
  }

  return {
    record(recorder, vectors, range) {
      const rangeEnd = range.offset + range.length
      for (const run of runs) {
        const offset = Math.max(run.offset, range.offset)
        const length = Math.min(run.offset + run.length, rangeEnd) - offset
        if (length > 0) recordAdamw(recorder, vectors, { offset, length })
      }
      for (const matrix of matrices) {
        const end = matrix.offset + matrix.length
        if (end <= range.offset || matrix.offset >= rangeEnd) continue
        if (matrix.offset < range.offset || end > rangeEnd) throw new RangeError(`The range cuts ${matrix.name}.`)
        recordMuon(recorder, vectors, matrix)
      }
    },
    scalars: (step) => ({ ...adamwScalars(config, step), ...muonScalars(config, step) }),
  }
}

/** Every product that the update of a stage computes, for the autotuner. */
export function optimizerProducts(layout: StageLayout, config: OptimizerConfig): MatmulShape[] {
  const matrices = layout.tensors.filter((tensor) => takesMuon(config, tensor))
  const shapes = new Map(matrices.map(({ shape }) => [shape.join(), shape as [number, number]]))
  return [...shapes.values()].flatMap(([rows, columns]) => Object.values(muonProducts(rows, columns)))
}
