/** Owns the work that the tests of the desk have claimed: a middle stage's tensors, true and false, and claims of them. */
import { digestOf } from '../../../server/audits/desk/exhibits.ts'
import type { WorkClaim } from '../../../server/orchestrator/types.ts'
import { runLayouts } from '../../../src/model/layout.ts'
import { stageShards } from '../../../src/model/optimizerShards.ts'
import { shardCount } from '../../../src/protocol/routing.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'
import { noise } from '../../kernels/gpu.ts'

const model = { dModel: 16, layers: 3, heads: 2, kvHeads: 2, ffn: 16, blockSize: 8, vocabSize: 32 }
export const config = runConfigSchema.parse({ model, stages: 3, replicas: 3, batch: 4, microbatch: 1, codec: 'f32' })
export const STAGE = 1
export const device = (n: number) => n.toString(16).padStart(64, '0')
export const bytesOf = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
const boundary = (seed: number) => bytesOf(noise(config.microbatch * model.blockSize * model.dModel, seed))
export const shares = stageShards(runLayouts(config)[STAGE]!, shardCount(config), config.optimizer).map(
  ({ length }, i) => bytesOf(noise(length, 100 + i)),
)
/** What the stage really makes of microbatch 4. */
export const truth = { activation: boundary(1), gradient: boundary(2), input: boundary(3) }

let nth = 0
export const claimOf = (made: { shares?: Uint8Array[] } = {}, more: Partial<WorkClaim> = {}): WorkClaim => ({
  ...{ runId: 'r1', generation: 1, step: 5, stage: STAGE, nodeId: 'n1', device: device(1) },
  receipt: (++nth).toString(16).padStart(64, 'e'),
  entries: [
    {
      ...{ microbatch: 4, up: 'u1', down: 'd1', activationTaken: digestOf(truth.input), gradientTaken: '0'.repeat(32) },
      ...{ activationMade: digestOf(truth.activation), gradientMade: digestOf(truth.gradient) },
    },
  ],
  shares: (made.shares ?? shares).map(digestOf),
  ...{ losses: [], credit: 1000n, neighbours: [device(90)], codec: 'f32' },
  ...more,
})
export const replicas = [2, 3, 4].map((n) => ({ nodeId: `n${n}`, device: device(n) }))

/** A claim of another gradient than the stage has. */
export const lies = shares.map((share) => bytesOf(new Float32Array(share.slice().buffer).map((value) => -value)))
