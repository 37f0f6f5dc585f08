/** Proves that lanes on a real device follow the f64 reference through several merges, and do not depend on who comes first. */
import { afterAll, describe, expect, it } from 'vitest'
import { createGpuStageModel } from '../../src/model/gpuStageModel.ts'
import { initialParameters } from '../../src/model/init.ts'
import { stageLayouts } from '../../src/model/layout.ts'
import { learningRate } from '../../src/model/learningRate.ts'
import { LaneMoments } from '../../src/model/local/laneMoments.ts'
import { LocalStage } from '../../src/model/local/localStage.ts'
import { takesMuon } from '../../src/model/optimizerShards.ts'
import { referenceModel, trainStep, zeroState } from '../../src/model/reference/model.ts'
import { finalUpdates, laneMicrobatches, sharesMoments, updateConfig } from '../../src/protocol/lanes.ts'
import { runConfigSchema, type RunConfigInput } from '../../src/protocol/runConfig.ts'
import { frameShape } from '../../src/stage/frames.ts'
import { LaneWork } from '../../src/stage/laneWork.ts'
import { noise, relativeError, testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())

const [LANES, INNER, STEPS] = [2, 3, 3]

type Moments = 'mean' | 'zero'

function configOf(optimizer: RunConfigInput['optimizer'] = {}, moments: Moments = 'mean', overlap = 0) {
  return runConfigSchema.parse({
    model: { vocabSize: 32, dModel: 16, layers: 1, heads: 2, kvHeads: 1, ffn: 24, blockSize: 8 },
    optimizer: { lr: 5e-3, warmupSteps: 2, ...optimizer },
    ...{ stages: 1, replicas: LANES, batch: 4, microbatch: 2, steps: STEPS, codec: 'f32' },
    sync: 'local',
    local: { innerSteps: INNER, mergeCodec: 'f32', moments, overlap },
  })
}

const config = configOf()
const layout = stageLayouts(config.model, 1)[0]!

function batchOf(step: number, microbatch: number) {
  const { blockSize, vocabSize } = config.model
  const ids = Uint32Array.from(noise(2 * blockSize + 1, 100 * step + microbatch), (x) =>
    Math.floor(((x + 1) / 2) * vocabSize),
  )
  return { tokens: ids.slice(0, -1), targets: ids.slice(1), size: 2 }
}

async function stageOf(of = config) {
  const stage = new LocalStage(await createGpuStageModel(gpu, { config: updateConfig(of), stage: 0 }), of)
  stage.write('parameters', 0, initialParameters(layout, 3))
  const shape = frameShape(of, 0)
  return { stage, work: new LaneWork(stage, shape), shards: shape.shards }
}

type Made = Awaited<ReturnType<typeof stageOf>>

/** One inner step of a lane that is on the device. */
async function innerStep({ stage, work }: Made, step: number, lane: number, inner: number): Promise<void> {
  const microbatch = lane * laneMicrobatches(config) + inner
  const { tokens, targets } = batchOf(step, microbatch)
  await stage.forwardBackward(microbatch, { tokens }, targets)
  await work.innerUpdate(step, lane, inner)
}

async function wholeLane(made: Made, step: number, lane: number): Promise<void> {
  await made.work.enterLane(lane)
  for (let inner = 0; inner < INNER; inner++) await innerStep(made, step, lane, inner)
}

async function merge({ work, shards }: Made, step: number): Promise<void> {
  for (let shard = 0; shard < shards.length; shard++) {
    await work.reduce(shard, step, [await work.readGradient(shard)])
    await work.update(shard, { step, scale: 1 / LANES })
  }
}

const whole = { offset: 0, length: layout.length }

describe('local steps on the device', () => {
  it.each([
    ['adamw', 'mean', 0],
    ['adamw', 'zero', 0],
    ['muon', 'mean', 0],
    ['muon', 'zero', 0],
    ['adamw', 'mean', 2],
    ['muon', 'mean', 2],
  ] as const)(
    'follow the reference with %s, lanes that begin from moments of %s and an overlap of %i',
    async (...given) => {
      const [kind, moments, overlap] = given
      const of = configOf({ kind }, moments, overlap)
      const made = await stageOf(of)
      /** Whether a number of the stage is final after `inner` updates of step `step`. */
      const isFinal = (step: number, inner: number, place: number) => {
        const shard = made.shards.findIndex(({ offset, length }) => place >= offset && place < offset + length)
        return finalUpdates(of, { step, shard, shards: made.shards.length }) <= inner
      }
      const zeros = (tensors: ReadonlyMap<string, Float64Array>) =>
        new Map([...tensors].map(([name, values]) => [name, new Float64Array(values.length)]))
      const start = initialParameters(layout, 3)
      const shared = new Map(
        layout.tensors.map((t) => [t.name, Float64Array.from(start.subarray(t.offset, t.offset + t.length))]),
      )
      const momentum = zeros(shared)
      // The mean of the lanes' first moments, and of the roots of their second.
      let [firsts, roots] = [zeros(shared), zeros(shared)]
      const ofMuon = new Set(layout.tensors.filter((t) => takesMuon(of.optimizer, t)).map(({ name }) => name))
      for (let step = 1; step <= STEPS; step++) {
        made.stage.beginStep(step)
        for (let lane = 0; lane < LANES; lane++) await wholeLane(made, step, lane)
        await merge(made, step)

        const mean = zeros(shared)
        const next = { firsts: zeros(shared), roots: zeros(shared) }
        for (let lane = 0; lane < LANES; lane++) {
          const own = new Map([...shared].map(([name, values]) => [name, values.slice()]))
          const model = referenceModel(config.model, own)
          const state = { ...zeroState(own), step: sharesMoments(of) ? (step - 1) * INNER : 0 }
          for (const name of own.keys()) {
            state.firstMoment.get(name)!.set(firsts.get(name)!)
            state.secondMoment.get(name)!.set(roots.get(name)!.map((root) => root ** 2))
          }
          for (let inner = 0; inner < INNER; inner++) {
            const lr = learningRate(of.optimizer, (step - 1) * INNER + inner + 1, STEPS * INNER)
            const vectors = [own, state.firstMoment, state.secondMoment]
            const before = vectors.map((of) => new Map([...of].map(([name, values]) => [name, values.slice()])))
            trainStep(model, state, of.optimizer, lr, batchOf(step, lane * laneMicrobatches(config) + inner))
            for (const { name, offset } of layout.tensors)
              vectors.forEach((of, v) =>
                of.get(name)!.forEach((_, i, values) => {
                  if (isFinal(step, inner, offset + i)) values[i] = before[v]!.get(name)![i]!
                }),
              )
          }
          for (const [name, values] of own) {
            const [before, sum] = [shared.get(name)!, mean.get(name)!]
            values.forEach((value, i) => (sum[i]! += (before[i]! - value) / LANES))
          }
          if (!sharesMoments(of)) continue
          for (const name of own.keys()) {
            const [first, root] = [next.firsts.get(name)!, next.roots.get(name)!]
            state.firstMoment.get(name)!.forEach((value, i) => (first[i]! += value / LANES))
            state.secondMoment.get(name)!.forEach((value, i) => (root[i]! += Math.sqrt(value) / LANES))
          }
        }
        firsts = next.firsts
        roots = next.roots
        const { lr, momentum: keep } = config.local.outer
        for (const [name, values] of shared) {
          const [g, v] = [mean.get(name)!, momentum.get(name)!]
          values.forEach((_, i) => {
            v[i] = keep * v[i]! + g[i]!
            values[i]! -= lr * (g[i]! + keep * v[i]!)
          })
        }
      }
      const [parameters, outer, kept] = await Promise.all(
        (['parameters', 'firstMoment', 'secondMoment'] as const).map((vector) => made.stage.read(vector, whole)),
      )
      const begins = new LaneMoments(layout, of.optimizer).beginning(kept!)
      for (const { name, offset, length } of layout.tensors) {
        const errorOf = (actual: Float32Array, wanted: Float64Array) =>
          relativeError(actual.subarray(offset, offset + length), wanted)
        expect(errorOf(parameters!, shared.get(name)!), name).toBeLessThan(2e-3)
        // AdamW's moments are shared as bf16.
        const most = sharesMoments(of) && !ofMuon.has(name) ? 2 ** -7 : 2e-3
        expect(errorOf(outer!, momentum.get(name)!), `outer momentum ${name}`).toBeLessThan(most)
        if (!sharesMoments(of)) continue
        expect(errorOf(begins.firstMoment, firsts.get(name)!), `first moment ${name}`).toBeLessThan(most)
        if (ofMuon.has(name)) continue
        expect(errorOf(begins.secondMoment.map(Math.sqrt), roots.get(name)!), `root ${name}`).toBeLessThan(most)
      }
      made.stage.destroy()
    },
  )

  it.each([
    ['adamw', 0],
    ['muon', 0],
    ['muon', 2],
  ] as const)(
    'give the same bits with %s and an overlap of %i in whatever order lanes come, and parted amid',
    async (kind, overlap) => {
      const of = configOf({ kind }, 'mean', overlap)
      const [one, other] = [await stageOf(of), await stageOf(of)]
      one.stage.beginStep(1)
      for (const lane of [0, 1]) await wholeLane(one, 1, lane)
      other.stage.beginStep(1)
      await other.work.enterLane(1)
      await innerStep(other, 1, 1, 0)
      await wholeLane(other, 1, 0)
      await other.work.enterLane(1)
      for (const inner of [1, 2]) await innerStep(other, 1, 1, inner)
      for (let shard = 0; shard < one.shards.length; shard++)
        expect(await other.work.readGradient(shard)).toEqual(await one.work.readGradient(shard))
      for (const { stage } of [one, other]) stage.destroy()
    },
  )

  it('score the shared weights, whatever lane was on the device', async () => {
    const made = await stageOf()
    const { tokens, targets } = batchOf(9, 9)
    const before = await made.stage.evaluate({ tokens }, targets)
    made.stage.beginStep(1)
    await wholeLane(made, 1, 0)
    await made.work.enterLane(1)
    await innerStep(made, 1, 1, 0)
    expect(await made.stage.evaluate({ tokens }, targets)).toBe(before)
    made.stage.beginStep(1)
    for (const lane of [0, 1]) await wholeLane(made, 1, lane)
    await merge(made, 1)
    expect(await made.stage.evaluate({ tokens }, targets)).not.toBe(before)
    made.stage.destroy()
  })
})
