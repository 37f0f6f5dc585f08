/** Owns the power of two that gradients are lifted by before they become halves. */
import type { RunConfig } from '../protocol/runConfig.ts'

/** Gradients of a mean over the batch are tiny: lifted by this they fit a half float's range. Other codecs need none. */
export function gradientLift({ batch, model }: Pick<RunConfig, 'batch' | 'model'>): number {
  return 2 ** Math.round(Math.log2(batch * model.blockSize))
}
