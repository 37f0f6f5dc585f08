/** Owns what forward and backward share: the stage's sizes, its tensors on the GPU, and the recording they write to. */
import type { BufferView, PooledBuffer } from '../gpu/buffers.ts'
import type { GpuContext } from '../gpu/device.ts'
import type { MatmulForm, MatmulShape } from '../gpu/kernels/matmul.ts'
import type { PlanBuilder } from '../gpu/plan.ts'
import type { RunConfig } from '../protocol/runConfig.ts'
import type { FlatVector } from './flatVector.ts'
import { paddedVocabulary, tensorNamed } from './layout.ts'
import type { StageLayout } from './layout.ts'
import type { StageKernels } from './stageKernels.ts'

/** A stage as it lies on its device. */
export interface Stage {
  readonly gpu: GpuContext
  readonly config: RunConfig
  readonly layout: StageLayout
  readonly kernels: StageKernels
  readonly parameters: FlatVector
  readonly gradients: FlatVector
}

/** A stage while one of its plans is recorded. */
export interface StageContext extends Stage {
  readonly recorder: PlanBuilder
}

export const HEAD_NORM = 'model.norm.weight'
export const EMBEDDING = 'model.embed_tokens.weight'

/** The tensors of a layer that one product computes with, by the name of the first, without `.weight`. */
const JOINED: Readonly<Record<string, readonly string[]>> = {
  'self_attn.q_proj': ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'],
  'mlp.gate_proj': ['mlp.gate_proj', 'mlp.up_proj'],
}

function layerRange({ layout }: Stage, layer: number, name: string) {
  const parts = (JOINED[name] ?? [name]).map((part) => tensorNamed(layout, `model.layers.${layer}.${part}.weight`))
  return { offset: parts[0]!.offset, length: parts.reduce((sum, { length }) => sum + length, 0) }
}

/** A layer's tensor, with what is joined to it, among the parameters. */
export function layerParameter(stage: Stage, layer: number, name: string): BufferView {
  return stage.parameters.view(layerRange(stage, layer, name))
}

export function layerGradient(stage: Stage, layer: number, name: string): BufferView {
  return stage.gradients.view(layerRange(stage, layer, name))
}

export function parameter(stage: Stage, name: string): BufferView {
  return stage.parameters.view(tensorNamed(stage.layout, name))
}

export function gradient(stage: Stage, name: string): BufferView {
  return stage.gradients.view(tensorNamed(stage.layout, name))
}

/** The head's matrix [padded vocabulary, d] among `parameters` or `gradients`. */
export function headMatrix(stage: Stage, vector: 'parameters' | 'gradients'): BufferView {
  const { model } = stage.config
  const { offset } = tensorNamed(stage.layout, model.tieEmbeddings ? EMBEDDING : 'lm_head.weight')
  return stage[vector].view({ offset, length: paddedVocabulary(model) * model.dModel })
}

/** Lends an f32 [rows, columns] buffer for the rest of the recording, or until it is given back. */
export function lend({ recorder }: StageContext, rows: number, columns: number, label: string): PooledBuffer {
  return recorder.scratch(rows * columns * 4, label)
}

export function giveBack({ recorder }: StageContext, ...buffers: readonly (PooledBuffer | undefined)[]): void {
  recorder.release(...buffers)
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
  /** c = residual + a·b, f32 [m, n]. */
  readonly residual?: BufferView
  /** Receives silu(gate)·up where c [m, n] holds gate and up side by side, f32 [m, n/2]. */
  readonly gated?: BufferView
}

export function multiply({ kernels, recorder }: StageContext, product: Product): void {
  const { form, a, b, c, m, n, k, accumulate = false, residual, gated } = product
  const epilogue = residual ? 'residual' : gated ? 'swiglu' : undefined
  const shape: MatmulShape = epilogue ? { form, m, n, k, epilogue } : { form, m, n, k }
  kernels.matmul.record(
    recorder,
    shape,
    { a, b, c, ...(residual && { residual }), ...(gated && { gated }) },
    accumulate,
  )
  recorder.spent(m * n * k)
}
