/** Proves that the estimate of a stage's memory holds what the stage lends, and not much more. */
import { describe, expect, it } from 'vitest'
import { boundaryBytes } from '../../src/codec/boundary.ts'
import { createGpuStageModel } from '../../src/model/gpuStageModel.ts'
import type { GpuStageModel } from '../../src/model/gpuStageModel.ts'
import { activationBytes, estimateStageMemory, microbatchesInFlight } from '../../src/model/memory.ts'
import { stageShards } from '../../src/model/optimizerShards.ts'
import { runConfigSchema } from '../../src/protocol/runConfig.ts'
import type { RunConfig, RunConfigInput } from '../../src/protocol/runConfig.ts'
import { testGpu } from './gpu.ts'

const gpu = await testGpu()
/** Which of them is fastest is of no matter here, and takes long to find. */
const kernels = { matmul: ['registers 4x4'] }

/** A pass of each kind, the merge with another replica, the update and the scoring: whatever a stage ever lends for. */
async function work(config: RunConfig, model: GpuStageModel): Promise<void> {
  const { layout } = model
  const { blockSize, vocabSize } = config.model
  const rows = config.microbatch * blockSize
  const ids = Uint32Array.from({ length: rows }, (_, i) => (7 * i) % vocabSize)
  const boundary = () => new Uint8Array(boundaryBytes(config, rows))
  const input = layout.hasEmbedding ? { tokens: ids } : { boundary: boundary(), tokenIds: ids }
  model.beginStep(1)
  if (layout.hasHead) {
    await model.forwardBackward(0, input, ids)
    await model.evaluate(input, ids)
  } else {
    const inFlight = microbatchesInFlight(config, layout)
    for (let m = 0; m < inFlight; m++) await model.forward(m, input)
    for (let m = 0; m < inFlight; m++) await model.backward(m, boundary())
    await model.forwardOnly(input)
  }
  for (const shard of stageShards(layout, Math.min(2, config.replicas), config.optimizer)) {
    const others = config.replicas > 1 ? [1, 2].map(() => new Float32Array(shard.length)) : []
    await model.reduceGradient(shard, others)
    await model.update(shard, { lr: 1e-3, scale: 1, step: 1 })
  }
  await model.read('parameters', { offset: 0, length: layout.length })
}

const tiny = { model: { layers: 4, dModel: 32, heads: 4, kvHeads: 2, ffn: 96, blockSize: 16 } }
const cases: [string, RunConfigInput][] = [
  ['one stage', { ...tiny, stages: 1, replicas: 1 }],
  ['two stages of two replicas', { ...tiny, stages: 2, replicas: 2 }],
  ['three uneven stages, many microbatches', { ...tiny, stages: 3, replicas: 1, microbatch: 1 }],
  ['tied, with a vocabulary of 65', { model: { ...tiny.model, vocabSize: 65, tieEmbeddings: true }, stages: 1 }],
  ['a large vocabulary', { model: { ...tiny.model, vocabSize: 8192 }, stages: 2, microbatch: 6 }],
  ['Muon with bf16 moments', { ...tiny, stages: 2, optimizer: { kind: 'muon', moments: 'bf16' } }],
  ['three stages with learned boundaries', { ...tiny, stages: 3, codec: 'bottleneck-f16' }],
  ['the default model with short sequences', { model: { blockSize: 16 }, stages: 2, replicas: 1 }],
]

describe('the estimate of a stage’s memory', () => {
  it.each(cases)('holds what %s lend, with and without activations kept', async (_, input) => {
    const config = runConfigSchema.parse({ codec: 'f32', ...input })
    for (let stage = 0; stage < config.stages; stage++) {
      const { total, staging } = estimateStageMemory(config, stage)
      const before = gpu.pool.bytesInUse
      const least = await createGpuStageModel(gpu, { config, stage }, { activationBudget: 0, kernels })
      await work(config, least)
      const lent = gpu.pool.bytesInUse - before
      const { layout } = least
      least.destroy()
      expect(lent).toBeLessThanOrEqual(total - staging)
      expect(lent).toBeGreaterThan((total - staging) / 1.5)
      if (layout.hasHead) continue

      const slots = microbatchesInFlight(config, layout)
      const activationBudget = slots * activationBytes(config, layout)
      const most = await createGpuStageModel(gpu, { config, stage }, { activationBudget, kernels })
      await work(config, most)
      const kept = gpu.pool.bytesInUse - before
      expect(most.work.recomputed).toBe(0)
      most.destroy()
      expect(kept).toBeLessThanOrEqual(total - staging + slots * activationBytes(config, layout))
      expect(gpu.pool.bytesInUse).toBe(before)
    }
  })
})
