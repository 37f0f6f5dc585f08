/** Proves that an executor shares, sums and sends what is final while a lane goes on, and takes a mean that came ahead once it is applied. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { encodeFrame } from '../../../src/protocol/frame.ts'
import { finalUpdates } from '../../../src/protocol/lanes.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'
import { bytesOf, frameShape, tensorFrame } from '../../../src/stage/frames.ts'
import { sharedVectors } from '../../../src/stage/model.ts'
import { assignment, boundary, config as exact, generation, PlayedWorker, settled, stage, stepMessage } from './playedWorker.ts' // prettier-ignore

const STEP = 5
const config = runConfigSchema.parse({
  ...exact,
  ...{ sync: 'local', local: { innerSteps: 2, overlap: 1, mergeCodec: 'int8' }, batch: 4, microbatch: 2 },
  optimizer: { lr: 0.5, minLr: 0.5, warmupSteps: 0, gradClip: 0 },
})
const shape = frameShape(config, stage)
const { shards } = shape
/** Not empty, and final after the first of two updates, or the second. */
const finalAt = (updates: number) =>
  [...shards.keys()].filter(
    (shard) =>
      finalUpdates(config, { step: STEP, shard, shards: shards.length }) === updates && shards[shard]!.length > 0,
  )
const [first, last] = [finalAt(1), finalAt(2)]
const owned = (...places: string[]) => shards.map(() => places)

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

const addressOf = (kind: 'parameterShard' | 'meanShard' | 'gradientShard', shard: number, step: number, attempt = 0) =>
  ({ kind, generation, step, index: shard, boundary: stage, attempt }) as const

/** Begins the step with lane 1, of one microbatch an inner step, from weights of one and all else zero. */
async function begin(owners: string[][]): Promise<void> {
  worker.hear({ type: 'assign', assignment: { ...assignment, config } })
  await settled()
  const leases = [2, 3].map((microbatch): [number, number, number] => [microbatch, 0, 1])
  worker.hear(stepMessage({ leases, owners }))
  shards.forEach(({ length }, shard) => {
    const values = new Float32Array(sharedVectors(config).length * length).fill(1, 0, length)
    worker.executor.receive(owners[shard]!.find((id) => id !== 'me')!, tensorFrame(addressOf('parameterShard', shard, STEP - 1), bytesOf(values), shape)) // prettier-ignore
  })
  await settled()
}

async function innerStep(inner: number): Promise<void> {
  worker.take('up', 'activation', 2 + inner, STEP, boundary(10))
  await settled()
  worker.take('down', 'gradient', 2 + inner, STEP, boundary(20))
  await settled()
}

const sharesTo = (id: string) =>
  worker.frames('gradientShard').flatMap(({ to, frame }) => (to === id ? [frame.index] : []))
const apply = (owners: string[][], attempt: number) =>
  worker.hear({ type: 'apply', generation, step: STEP, attempt, lr: 1, scale: 0.5, owners, receivers: ['me', 'o1', 'o2'] }) // prettier-ignore

/** Of a shard, the first of its weights as it stands here after the step; null where it does not stand. */
async function weightAfter(shard: number): Promise<number | null> {
  const asks = { ...addressOf('parameterShard', shard, STEP), kind: 'want', codec: 'f32', rows: 0, columns: 4 } as const
  const before = worker.frames('parameterShard').length
  worker.executor.receive('o2', encodeFrame(asks, new Uint8Array(0)))
  await settled()
  const given = worker.frames('parameterShard')[before]
  return given ? new Float32Array(given.frame.payload.slice().buffer)[0]! : null
}

it('shares what is final after the first update before the second', async () => {
  await begin(owned('o1', 'o2'))
  await innerStep(0)
  expect(first.length).toBeGreaterThan(0)
  expect(sharesTo('o1').sort()).toEqual(expect.arrayContaining(first))
  expect(sharesTo('o1')).not.toEqual(expect.arrayContaining([last[0]]))
  expect(worker.of('finished')).toEqual([])
  await innerStep(1)
  expect(sharesTo('o2')).toEqual(expect.arrayContaining([...first, ...last]))
  expect(worker.of('finished')).toHaveLength(1)
})

it('as first owner sends the mean of what is final before its lane has ended, and the same bytes are the step’s', async () => {
  const owners = owned('me', 'o2')
  await begin(owners)
  await innerStep(0)
  const shard = first[0]!
  const contributors: [string, number][] = [['me', 1]]
  worker.hear({ type: 'reduce', generation, step: STEP, attempt: 1, contributors, shards: first })
  await settled()
  const ahead = worker.frames('meanShard').filter(({ frame }) => frame.index === shard)
  expect(ahead.map(({ to, frame }) => [to, frame.attempt])).toEqual([['o2', 1]])
  expect(worker.of('reduced')).toEqual([])
  await innerStep(1)
  worker.hear({ type: 'reduce', generation, step: STEP, attempt: 1, contributors })
  await settled()
  expect(new Set(worker.of('reduced').map((message) => message.shard))).toEqual(new Set(shards.keys()))
  apply(owners, 1)
  // Eight shards take their updates one after another.
  for (let i = 0; i < 4; i++) await settled()
  const sent = worker.frames('meanShard').filter(({ frame }) => frame.index === shard)
  expect(sent.map(({ to }) => to)).toEqual(['o2', 'o1'])
  expect(sent[1]!.frame.payload).toEqual(ahead[0]!.frame.payload)
})

it.each([
  ['takes', 1],
  ['does not take', 2],
])('%s a mean of attempt 1 that came ahead where attempt %i is applied', async (_, attempt) => {
  const owners = owned('o1', 'o2')
  await begin(owners)
  await innerStep(0)
  await innerStep(1)
  const shard = first[0]!
  const { frame } = worker.frames('gradientShard').find(({ frame }) => frame.index === shard)!
  // What this lane alone changed, as the mean of all: behind the lane's number it has a mean's form.
  const mean = frame.payload.subarray(4)
  worker.executor.receive('o1', tensorFrame(addressOf('meanShard', shard, STEP, 1), mean, shape))
  await settled()
  expect(await weightAfter(shard)).toBeNull()
  apply(owners, attempt)
  await settled()
  const weight = await weightAfter(shard)
  if (attempt === 2) expect(weight).toBeNull()
  else expect(weight).toBeLessThan(0.9)
})
