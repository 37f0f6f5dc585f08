/** Proves that a stage can be tried out before its weights have come, wherever it stands, and is as new after it. */
import { afterAll, expect, it } from 'vitest'
import { createGpuStageModel } from '../../src/model/gpuStageModel.ts'
import { runConfigSchema } from '../../src/protocol/runConfig.ts'
import { warmUp } from '../../src/stage/warmUp.ts'
import { testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())

const model = { vocabSize: 19, dModel: 16, layers: 3, heads: 2, kvHeads: 2, ffn: 24, blockSize: 8 }

it.each([0, 1, 2])('stage %i of three is timed and leaves nothing behind', async (stage) => {
  const config = runConfigSchema.parse({ model, stages: 3, batch: 4, microbatch: 2, codec: 'int8' })
  const tried = await createGpuStageModel(gpu, { config, stage })
  const before = gpu.pool.bytesInUse
  expect(await warmUp(tried, config, 0)).toBeGreaterThan(0)
  expect(gpu.pool.bytesInUse).toBe(before)
  const whole = { offset: 0, length: tried.layout.length }
  expect((await tried.readGradient(whole)).every((x) => x === 0)).toBe(true)
  tried.destroy()
})
