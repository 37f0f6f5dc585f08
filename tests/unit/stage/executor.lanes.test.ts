/** Proves that an executor takes a lane through its steps on a model, shares what it changed in few bits, and takes the mean. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { decodeGroups, type Dither, groupedBytes } from '../../../src/codec/groups.ts'
import { laneDither, meanDither } from '../../../src/codec/mergeDither.ts'
import { encodeFrame } from '../../../src/protocol/frame.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'
import { runLayouts } from '../../../src/model/layout.ts'
import { bf16Decode } from '../../../src/model/optimizerMoments.ts'
import { takesMuon } from '../../../src/model/optimizerShards.ts'
import { bytesOf, frameShape, tensorFrame } from '../../../src/stage/frames.ts'
import { assignment, boundary, config as exact, generation, OWNERS, PlayedWorker, settled, stage, stepMessage } from './playedWorker.ts' // prettier-ignore

const config = runConfigSchema.parse({
  ...exact,
  ...{ sync: 'local', local: { innerSteps: 2, mergeCodec: 'int8' }, batch: 4, microbatch: 2 },
  optimizer: { kind: 'muon', lr: 0.5, minLr: 0.5, warmupSteps: 0, gradClip: 0 },
})
const layout = runLayouts(config)[stage]!
const shape = frameShape(config, stage)
const { shards, merged } = shape

const at = (shard: number) => ({ seed: config.seed, stage, step: 5, shard })
/** What lane 1 changed of a shard was encoded with. */
const ditherOf = (shard: number): Dither => laneDither(at(shard), 1)

let worker: PlayedWorker
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] })
  worker = new PlayedWorker()
  const session = { resumed: false, received: 0, token: 't', heartbeatMs: 1000, iceServers: [] }
  worker.hear({ type: 'welcome', nodeId: 'me', ...session })
})
afterEach(async () => {
  await worker.executor.close()
  vi.useRealTimers()
})

const addressOf = (kind: 'parameterShard' | 'meanShard', shard: number, step: number) =>
  ({ kind, generation, step, index: shard, boundary: stage, attempt: 0 }) as const

/** Of one shard, place by place in `vector`, whether Muon takes it; a tensor's padding goes with it. */
function placesOf({ offset, length }: (typeof shards)[number], visit: (place: number, ofMuon: boolean) => void): void {
  layout.tensors.forEach((tensor, t) => {
    const last = Math.min(length, (layout.tensors[t + 1]?.offset ?? layout.length) - offset)
    for (let i = Math.max(0, tensor.offset - offset); i < last; i++) visit(i, takesMuon(config.optimizer, tensor))
  })
}

/** Parameters of ones, an outer momentum of zeros and the moments that lanes begin from, from the owners. */
function takeWhole(step: number, moment: (place: number) => number): void {
  shards.forEach((part, shard) => {
    const { length } = part
    const values = new Float32Array(3 * length).fill(1, 0, length)
    placesOf(part, (i) => (values[2 * length + i] = moment(i)))
    const frame = tensorFrame(addressOf('parameterShard', shard, step), bytesOf(values), shape)
    worker.executor.receive(OWNERS[shard]![0]!, frame)
  })
}

/** Step 5 with lane 1, whose microbatches are 2 and 3, one an inner step. */
async function trained(moment: (place: number) => number = () => 4): Promise<void> {
  worker.hear({ type: 'assign', assignment: { ...assignment, config } })
  await settled()
  worker.hear(
    stepMessage({
      leases: [
        [2, 0, 1],
        [3, 0, 1],
      ],
    }),
  )
  takeWhole(4, moment)
  await settled()
  for (const microbatch of [2, 3]) {
    worker.take('up', 'activation', microbatch, 5, boundary(10))
    await settled()
    worker.take('down', 'gradient', microbatch, 5, boundary(20))
    await settled()
  }
}

it('takes an update after each inner step, and gives what the lane changed and its moments to the owners of each shard', async () => {
  await trained()
  expect(worker.model.calls.filter((call) => call.startsWith('update'))).toEqual(['update 9', 'update 10'])
  expect(worker.of('finished')).toHaveLength(1)
  expect(worker.of('advanced').map(({ lane, inner }) => [lane, inner])).toEqual([
    [1, 1],
    [1, 2],
  ])
  const shares = worker.frames('gradientShard')
  expect(shares.map(({ to, frame }) => [to, frame.index, frame.codec, frame.rows])).toEqual([
    ['o1', 0, 'int8', 1],
    ['o2', 0, 'int8', 1],
    ['o2', 1, 'int8', 1],
    ['o1', 1, 'int8', 1],
  ])
  const { length } = shards[0]!
  const { payload } = shares[0]!.frame
  expect(payload.byteLength).toBe(4 + groupedBytes('int8', merged[0]!))
  expect(new DataView(payload.buffer, payload.byteOffset).getUint32(0, true)).toBe(1)
  // The model played moves each parameter by the rate, half, in each of two updates.
  const vectors = decodeGroups('int8', payload.subarray(4), merged[0]!, ditherOf(0))
  vectors.subarray(0, length).forEach((value) => expect(Math.abs(value - 1)).toBeLessThan(0.01))
  // The lane began from fours: momenta, and roots over first moments of zero. Each of two updates adds one to a first moment, and two
  // to a second.
  let first = 2 * length
  placesOf(shards[0]!, (i, muon) => {
    expect(Math.abs(vectors[length + i]! - (muon ? 6 : Math.sqrt(20)))).toBeLessThan(0.05)
    if (!muon) expect(Math.abs(vectors[first++]! - 2)).toBeLessThan(0.05)
  })
  expect(first).toBe(vectors.length)
})

it('gives no root of a second moment as zero, however much larger its neighbours are', async () => {
  await trained((i) => (i % 4 === 0 ? 1000 : 0))
  const roots: number[] = []
  for (const { frame } of worker.frames('gradientShard')) {
    const { length } = shards[frame.index]!
    const vectors = decodeGroups('int8', frame.payload.subarray(4), merged[frame.index]!, ditherOf(frame.index))
    placesOf(shards[frame.index]!, (i, muon) => !muon && roots.push(vectors[length + i]!))
  }
  // Roots of two beside a thousand, a quarter of a level.
  expect(roots.length).toBeGreaterThan(8)
  expect(Math.min(...roots)).toBeGreaterThan(0)
  expect(Math.max(...roots)).toBeGreaterThan(7)
})

it('takes the outer step from the mean, and refuses one that is not as long as its shard', async () => {
  await trained()
  const read = async () => {
    worker.executor.receive('o1', encodeFrame({ ...addressOf('parameterShard', 0, 5), kind: 'want', codec: 'f32', rows: 0, columns: 4 }, new Uint8Array(0))) // prettier-ignore
    await settled()
    return worker.frames('parameterShard').at(-1)?.frame
  }
  const { length } = shards[0]!
  // int8: every group's scale is 2⁻⁷, the level of what changed 64, that of the moments 32.
  const numbers = merged[0]!
  const mean = new Uint8Array(groupedBytes('int8', numbers))
  const groups = Math.ceil(numbers / 64)
  const scales = 4 * Math.ceil((2 * groups) / 4)
  new Uint16Array(mean.buffer, 0, groups).fill(0x3c00)
  mean.fill(64, scales, scales + length)
  mean.fill(32, scales + length, scales + 2 * length)
  mean.fill(16, scales + 2 * length, scales + numbers)
  const header = { ...addressOf('meanShard', 0, 5), codec: 'int8', rows: 1, columns: numbers } as const
  worker.executor.receive('o1', encodeFrame(header, mean.subarray(4)))
  expect(worker.executor.badFrames).toBe(1)
  worker.executor.receive('o1', encodeFrame({ ...header, codec: 'int4' }, mean))
  expect(worker.executor.badFrames).toBe(2)
  worker.executor.receive('o1', tensorFrame(addressOf('meanShard', 0, 5), mean, shape))
  await settled()
  const taken = (await read())!
  const values = new Float32Array(taken.payload.slice().buffer)
  // θ = 1 − lr·(g + μ·v), where v = g is half, within half a level.
  const { lr, momentum } = config.local.outer
  expect([values.length, taken.rows]).toEqual([3 * length, 3])
  const dither = meanDither(at(0))
  const g = (64.5 - dither(0)) / 128
  expect(values[0]).toBeCloseTo(1 - lr * (1 + momentum) * g, 6)
  expect(values[length]).toBeCloseTo(g, 6)
  const halves = bf16Decode(new Uint16Array(values.slice(2 * length).buffer))
  let first = 2 * length
  placesOf(shards[0]!, (i, muon) => {
    const moment = (32.5 - dither(length + i)) / 128
    if (muon) return expect(values[2 * length + i]).toBeCloseTo(moment, 6)
    expect(halves[2 * i + 1]).toBeCloseTo(moment, 2)
    expect(halves[2 * i]).toBeCloseTo((16.5 - dither(first++)) / 128, 2)
  })
})
