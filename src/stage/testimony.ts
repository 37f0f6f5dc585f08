/** Owns what a juror says of what it recomputed: sketches of its tensors, which it made without having seen the claim. */
import { evidenceText, sketchBoundary, sketchShard } from '../audit/evidence.ts'
import { numbersPerToken } from '../codec/boundary.ts'
import { gradientLift } from '../codec/lift.ts'
import type { EvidenceMessage } from '../protocol/audit.ts'
import { floatsOf } from './frames.ts'
import type { StageAction } from './machineTypes.ts'
import type { Tenure } from './tenure.ts'

type Bytes = Uint8Array<ArrayBufferLike>

/** `gradient` is the shard of the action. @throws RangeError where a tensor is not of the run's shape */
export function testimonyOf(
  { shape, model }: Tenure,
  { shard, seed, input, activation, inputGradient, losses }: Extract<StageAction<Bytes>, { type: 'testify' }>,
  gradient: Bytes,
): EvidenceMessage {
  const { config, shards } = shape
  const { layout } = model!
  const rows = { rows: config.microbatch * config.model.blockSize, columns: numbersPerToken(config) }
  const sketch = (tensor: Bytes | null, scale: number) =>
    tensor ? evidenceText(sketchBoundary(config.codec, tensor, rows, scale, seed)) : undefined
  return {
    activation: sketch(activation, 1),
    // What an activation is measured from; where none is made it is not looked at.
    input: activation ? sketch(input, 1) : undefined,
    inputGradient: sketch(inputGradient, gradientLift(config)),
    parameterGradient: evidenceText(sketchShard(floatsOf(gradient), shards[shard]!, layout.tensors, seed)),
    loss: layout.hasHead ? evidenceText(Float32Array.from(losses)) : undefined,
  }
}
