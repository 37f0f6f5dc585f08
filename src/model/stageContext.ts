/** Owns what forward and backward share: the stage's sizes, its tensors on the GPU, and the recorder they write to. */
import type { BufferView, PooledBuffer } from '../gpu/buffers.ts'
import type { GpuContext } from '../gpu/device.ts'
import type { Recorder } from '../gpu/kernel.ts'
import type { MatmulForm } from '../gpu/kernels/matmul.ts'
import type { RunConfig } from '../protocol/runConfig.ts'
import type { FlatVector } from './flatVector.ts'
import { tensorNamed } from './layout.ts'
import type { StageLayout } from './layout.ts'
import type { StageKernels } from './stageKernels.ts'

export interface StageContext {
  readonly gpu: GpuContext
  readonly config: RunConfig
  readonly layout: StageLayout
  readonly kernels: StageKernels
  readonly recorder: Recorder
  readonly parameters: FlatVector
  readonly gradients: FlatVector
}

export const HEAD_NORM = 'model.norm.weight'
export const EMBEDDING = 'model.embed_tokens.weight'

export function headWeight({ config }: StageContext): string {
  return config.model.tieEmbeddings ? EMBEDDING : 'lm_head.weight'
}

export function parameter(stage: StageContext, name: string): BufferView {
  return stage.parameters.tensor(tensorNamed(stage.layout, name))
}

export function gradient(stage: StageContext, name: string): BufferView {
  return stage.gradients.tensor(tensorNamed(stage.layout, name))
}

/** Lends an f32 [rows, columns] buffer. */
export function lend({ gpu }: StageContext, rows: number, columns: number, label: string): PooledBuffer {
  return gpu.pool.allocate(rows * columns * 4, label)
}

export function giveBack({ gpu }: StageContext, ...buffers: readonly (PooledBuffer | undefined)[]): void {
  for (const buffer of buffers) if (buffer) gpu.pool.release(buffer)
}

export interface Product {
  readonly form: MatmulForm
  readonly a: BufferView
  readonly b: BufferView
  readonly c: BufferView
  readonly m: number
  readonly n: number
  readonly k: number
  readonly accumulate?: boolean
}

export function multiply({ kernels, recorder }: StageContext, product: Product): void {
  const { form, a, b, c, m, n, k, accumulate = false } = product
  kernels.matmul.record(recorder, { form, m, n, k }, { a, b, c }, accumulate)
}

/**
 * One submit should stay well under the seconds after which a watchdog resets the device, and under the tenth of one
 * in which the page gets no frame: in multiply-adds, for the slowest of each kind of adapter.
 */
const SUBMIT_WORK = { software: 4e8, hardware: 2e10 }

/** Submits at a layer's border when `work` multiply-adds since the last submit are enough; returns what is left. */
export function submitIfLong({ gpu, recorder }: StageContext, work: number): number {
  if (work < (gpu.adapter.software ? SUBMIT_WORK.software : SUBMIT_WORK.hardware)) return work
  recorder.submit()
  return 0
}

/** Multiply-adds of one layer's forward pass. */
export function layerWork({ config }: StageContext, rows: number): number {
  const { dModel: d, heads, kvHeads, ffn, blockSize } = config.model
  return rows * (2 * d * d + 2 * d * (d / heads) * kvHeads + 3 * d * ffn + d * blockSize)
}
