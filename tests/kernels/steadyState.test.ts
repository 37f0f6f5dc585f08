/** Proves that training settles: after its first steps it makes no GPU object, lends no byte and leaves nothing on the heap. */
import { afterAll, expect, it } from 'vitest'
import { createGpuStageModel } from '../../src/model/gpuStageModel.ts'
import type { GpuStageModel } from '../../src/model/gpuStageModel.ts'
import { initialParameters } from '../../src/model/init.ts'
import { runConfigSchema } from '../../src/protocol/runConfig.ts'
import { countObjects, noise, testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())

const config = runConfigSchema.parse({
  model: { vocabSize: 32, dModel: 16, layers: 2, heads: 2, kvHeads: 1, ffn: 32, blockSize: 8 },
  ...{ stages: 2, replicas: 2, batch: 4, microbatch: 2, codec: 'int8' },
})
const STEPS = 500
const WARM = 5

/** A step as the executor drives it: 1F1B over two stages, a merge of two contributions, an update of one shard of two. */
async function trainStep(models: readonly GpuStageModel[], step: number): Promise<number> {
  const [first, last] = [models[0]!, models[1]!]
  const rows = config.microbatch * config.model.blockSize
  const ids = (seed: number) => Uint32Array.from(noise(rows, seed), (x) => Math.floor(((x + 1) / 2) * 32))
  for (const model of models) model.beginStep(1)
  const boundaries = [
    await first.forward(0, { tokens: ids(2 * step) }),
    await first.forward(1, { tokens: ids(3 * step) }),
  ]
  let loss = 0
  for (const [microbatch, boundary] of boundaries.entries()) {
    const result = await last.forwardBackward(microbatch, { boundary }, ids(5 * step + microbatch))
    loss += result.lossSum
    await first.backward(microbatch, result.inputGradient!)
  }
  for (const model of models) {
    const half = Math.floor(model.layout.length / 128) * 64
    const mine = { offset: 0, length: half }
    const own = await model.readGradient(mine)
    await model.reduceGradient(mine, [own, own])
    await model.update(mine, { lr: 1e-3, scale: 1, step })
    model.write('parameters', 0, await model.read('parameters', mine))
  }
  return loss
}

const collect = await collector()

/** Runs the collector where the engine lets a test do it; null in a browser. */
async function collector(): Promise<(() => number) | null> {
  if (typeof process !== 'object' || !process.versions?.node) return null
  const [v8, vm] = await Promise.all([
    import(/* @vite-ignore */ `node:${'v8'}`),
    import(/* @vite-ignore */ `node:${'vm'}`),
  ])
  v8.setFlagsFromString('--expose-gc')
  const gc = vm.runInNewContext('gc') as () => void
  return () => {
    gc()
    gc()
    return process.memoryUsage().heapUsed
  }
}

it(`${STEPS} steps make no GPU object after the first ${WARM}, lend nothing and leave the heap flat`, async () => {
  const models: GpuStageModel[] = []
  for (const stage of [0, 1]) models.push(await createGpuStageModel(gpu, { config, stage }))
  for (const model of models) model.write('parameters', 0, initialParameters(model.layout, 1))
  for (let step = 1; step <= WARM; step++) await trainStep(models, step)
  const [inUse, held] = [gpu.pool.bytesInUse, gpu.pool.bytesHeld]
  const made = countObjects(gpu.device)
  let middle = 0
  for (let step = WARM + 1; step <= STEPS; step++) {
    await trainStep(models, step)
    if (step === 100) middle = collect?.() ?? 0
  }
  const grown = (collect?.() ?? 0) - middle
  expect(made.stop()).toEqual({})
  expect([gpu.pool.bytesInUse, gpu.pool.bytesHeld]).toEqual([inUse, held])
  // 400 steps of 40 calls: a single kept promise, view or number a call would show as more than this.
  expect(grown).toBeLessThan(256 * 1024)
  for (const model of models) model.destroy()
})
