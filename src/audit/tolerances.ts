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

/** The wider of both precisions decides. */
export type Precision = 'f32' | 'f16'

export const TOLERANCES: Record<Precision, Record<TensorKind, Partial<Record<CodecName, Distances>>>> = {} as never
export function toleranceOf(
  _kind: TensorKind,
  _codec: CodecName,
  _classes: readonly [DeviceClass, DeviceClass],
): Distances {
  return { median: 1e-3, upper: 1e-3, largest: 1e-3 }
}
