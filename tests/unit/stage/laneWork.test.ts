/** Proves that owners' mean leaves every replica with the same bits, and AdamW with something to divide by. */
import { expect, it } from 'vitest'
import { LocalStage } from '../../../src/model/local/localStage.ts'
import { bf16Decode } from '../../../src/model/optimizerMoments.ts'
import { takesMuon } from '../../../src/model/optimizerShards.ts'
import { finalUpdates, innerSteps, laneCount } from '../../../src/protocol/lanes.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'
import { frameShape } from '../../../src/stage/frames.ts'
import { LaneWork } from '../../../src/stage/laneWork.ts'
import { PlayedModel } from './playedModel.ts'
import { config as exact } from './playedWorker.ts'

const STEP = 5
/** The embedding’s: AdamW takes most of it. */
const stage = 0

it.each([
  ['int8', 127],
  ['int4', 7],
] as const)(
  'in %s a replica that takes the mean has the owner’s bits, and no root is less than half a level',
  async (mergeCodec, levels) => {
    const config = runConfigSchema.parse({
      ...exact,
      ...{ sync: 'local', local: { innerSteps: 2, mergeCodec }, batch: 4, microbatch: 2 },
      optimizer: { kind: 'muon', lr: 0.5, minLr: 0.5, warmupSteps: 0, gradClip: 0 },
    })
    // Of four roots one is a thousand, the others and all first moments are zero: the high halves and the low ones.
    const made = () => {
      const local = new LocalStage(new PlayedModel(config, stage), config)
      local.write(
        'secondMoment',
        0,
        new Float32Array(local.layout.length).map((_, i) => (i % 4 === 0 ? 1000 : 0)),
      )
      const shape = frameShape(config, stage)
      return { local, shards: shape.shards, work: new LaneWork(local, shape) }
    }
    const [owner, other] = [made(), made()]
    owner.local.beginStep(STEP)
    for (let lane = 0; lane < laneCount(config); lane++) {
      await owner.work.enterLane(lane)
      for (let inner = 0; inner < innerSteps(config); inner++) await owner.work.innerUpdate(STEP, lane, inner)
    }
    for (const shard of owner.shards.keys()) {
      await owner.work.reduce(shard, STEP, [await owner.work.readGradient(shard)])
      const tensor = await owner.work.update(shard, { step: STEP, scale: 1 / laneCount(config) })
      expect(await other.work.writeParameters({ shard, step: STEP, tensor, compare: false, mean: true })).toBe(true)
    }
    const whole = { offset: 0, length: owner.local.layout.length }
    for (const kind of ['parameters', 'firstMoment', 'secondMoment'] as const) {
      expect(await other.local.read(kind, whole)).toEqual(await owner.local.read(kind, whole))
    }
    const moments = await owner.local.read('secondMoment', whole)
    const halves = bf16Decode(new Uint16Array(moments.buffer))
    const roots = owner.local.layout.tensors
      .filter((tensor) => !takesMuon(config.optimizer, tensor))
      .flatMap(({ offset, length }) => Array.from({ length }, (_, i) => halves[2 * (offset + i) + 1]!))
    expect(roots.length).toBeGreaterThan(8)
    // Half a level beside a thousand, but for what bf16 rounds.
    expect(Math.min(...roots)).toBeGreaterThan((0.49 * 1000) / levels)
  },
)

it('encodes what lanes changed of a shard as it becomes final, and leaves it as it is from there on', async () => {
  const config = runConfigSchema.parse({
    ...exact,
    ...{ sync: 'local', local: { innerSteps: 4, overlap: 3, mergeCodec: 'f32' }, batch: 4, microbatch: 2 },
    optimizer: { lr: 0.5, minLr: 0.5, warmupSteps: 0, gradClip: 0 },
  })
  const shape = frameShape(config, stage)
  const played = new PlayedModel(config, stage)
  const local = new LocalStage(played, config)
  const work = new LaneWork(local, shape)
  local.beginStep(STEP)
  await work.enterLane(0)
  const shards = [...shape.shards.keys()]
  const finalAfter = shards.map((shard) => finalUpdates(config, { step: STEP, shard, shards: shards.length }))
  expect([Math.min(...finalAfter), Math.max(...finalAfter)]).toEqual([1, 4])
  const first = new Map<number, Uint8Array>()
  for (let inner = 0; inner < 4; inner++) {
    played.gradient.fill(1)
    await work.innerUpdate(STEP, 0, inner)
    for (const shard of shards) {
      const share = await work.readGradient(shard)
      expect(share.byteLength > 0).toBe(finalAfter[shard]! <= inner + 1)
      if (share.byteLength > 0 && !first.has(shard)) first.set(shard, share)
      else if (share.byteLength > 0) expect(share).toEqual(first.get(shard))
    }
  }
  // Behind the lane's number what it changed: every update moves what is played by the rate.
  for (const shard of shards) {
    if (shape.shards[shard]!.length === 0) continue
    expect(new Float32Array(first.get(shard)!.slice(4).buffer)[0]).toBe(0.5 * finalAfter[shard]!)
  }
})
