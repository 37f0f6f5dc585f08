/** Proves what a node gives to an audit: the bytes that it signed for, and sketches of what it recomputed from genuine inputs. */
import { createHash } from 'node:crypto'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { evidenceFloats, sketchBoundary, sketchShard } from '../../../src/audit/evidence.ts'
import { clientMessageSchema, serverMessageSchema } from '../../../src/protocol/control.ts'
import { sumText } from '../../../src/protocol/receipt.ts'
import { assignment, boundary, config, generation, PlayedWorker, rows, settled, stepMessage } from './playedWorker.ts'

const AUDIT = 'c'.repeat(64)
const SEED: [number, number] = [5, 6]
const shape = { rows, columns: config.model.dModel }
const digestOf = (bytes: Uint8Array | string) => createHash('sha256').update(bytes).digest('hex').slice(0, 32)
const bytesOf = (values: Float32Array) => new Uint8Array(values.buffer)

let worker: PlayedWorker
beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] })
  worker = new PlayedWorker()
  const words = { token: 't', heartbeatMs: 1000, iceServers: [], resumed: false, received: 0 }
  worker.hear({ type: 'welcome', nodeId: 'me', ...words })
  worker.hear({ type: 'assign', assignment })
  await settled()
})
afterEach(async () => {
  await worker.executor.close()
  vi.useRealTimers()
})

/** Begins a step and computes what is leased. */
async function step(leases: [number, number, number][]) {
  worker.hear(stepMessage({ leases, version: leases.length > 0 ? 1 : 0 }))
  worker.takeParameters(4, 1)
  await settled()
  for (const [m] of leases) await give(m)
}

async function give(microbatch: number, input = boundary(10)) {
  worker.take('up', 'activation', microbatch, 5, input)
  worker.take('down', 'gradient', microbatch, 5, boundary(20))
  await settled()
}

const recompute = () =>
  serverMessageSchema.parse({
    ...{ type: 'recompute', generation, step: 5, audit: AUDIT, peers: ['up', 'down'], microbatch: 1, shard: 0 },
    leases: [[1, 0, 1, digestOf(bytesOf(boundary(10))), digestOf(bytesOf(boundary(20)))]],
    seed: SEED,
  })

it('a claimant gives the bytes that its receipt names', async () => {
  await step([[0, 0, 1]])
  worker.hear({ type: 'show', generation, step: 5, audit: AUDIT, microbatch: 0, shard: 1 })
  await settled()
  const { receipt } = worker.of('receipt')[0]!
  const [, , , , activation, , gradient] = receipt.microbatches[0]!
  expect(receipt.shares).toHaveLength(2)
  expect(worker.exhibits.map(({ audit, kind, bytes }) => [audit, kind, digestOf(bytes)])).toEqual([
    [AUDIT, 'activation', activation],
    [AUDIT, 'gradient', gradient],
    [AUDIT, 'share', receipt.shares[1]],
  ])
})

it('a juror tells sketches of what came of the claim’s inputs, under the seed it was given', async () => {
  await step([])
  worker.hear(recompute())
  expect(worker.partners).toEqual(expect.arrayContaining(['up', 'down']))
  await give(1)
  const [message] = worker.of('recomputed')
  expect(clientMessageSchema.parse(message)).toEqual(message)
  const told = (kind: 'activation' | 'input' | 'inputGradient' | 'parameterGradient') =>
    evidenceFloats(message!.evidence[kind]!)
  const sketch = (value: number) => sketchBoundary('f32', bytesOf(boundary(value)), shape, 1, SEED)
  // The played stage adds one to what goes through it, and to each gradient for each microbatch.
  expect(told('activation')).toEqual(sketch(11))
  expect(told('input')).toEqual(sketch(10))
  expect(told('inputGradient')).toEqual(sketch(21))
  const [shard] = worker.shards
  const ones = new Float32Array(shard!.length).fill(1)
  expect(told('parameterGradient')).toEqual(sketchShard(ones, shard!, worker.model.layout.tensors, SEED))
  expect(message!.evidence.loss).toBeUndefined()
})

it('a juror that is given other inputs than the claim names says so, and computes nothing', async () => {
  await step([])
  worker.hear(recompute())
  await give(1, boundary(11))
  expect(worker.of('recomputed')).toEqual([])
  expect(worker.of('declined')).toMatchObject([{ audit: AUDIT, step: 5 }])
  expect(worker.model.calls).not.toContain('forward 1')
})

it('a juror’s own share is on the device again before more is added to it', async () => {
  await step([[0, 0, 1]])
  const own = worker.model.gradient.slice()
  worker.hear(recompute())
  await give(1)
  expect(worker.of('recomputed')).toHaveLength(1)
  worker.hear({ type: 'leases', generation, step: 5, version: 2, peers: ['up', 'down'], leases: [[0, 0, 1], [3, 0, 1]] }) // prettier-ignore
  await settled()
  expect(worker.model.gradient).toEqual(own)
  await give(3)
  expect(worker.model.gradient).toEqual(own.map((x) => x + 1))
})

it('an owner names what it summed, as one digest and one by one', async () => {
  const owners = [['me', 'o2'], ['o2', 'me']] // prettier-ignore
  worker.hear(stepMessage({ owners }))
  worker.shards.forEach(({ length }, shard) => {
    worker.take('o2', 'parameterShard', shard, 4, new Float32Array(length))
    worker.take('o2', 'momentShard', shard, 4, new Float32Array(2 * length))
  })
  await settled()
  await give(0)
  const { receipt } = worker.of('receipt')[0]!
  const theirs = new Float32Array(worker.shards[0]!.length).fill(7)
  worker.take('o2', 'gradientShard', 0, 5, theirs, 1)
  worker.hear({ type: 'reduce', generation, step: 5, attempt: 1, contributors: [['o2', 1], ['me', 1]] }) // prettier-ignore
  await settled()
  const digests = [digestOf(bytesOf(theirs)), receipt.shares[0]!]
  const [reduced] = worker.of('reduced')
  expect(reduced).toMatchObject({ shard: 0, digest: digestOf(sumText(digests)) })
  worker.hear({ type: 'tally', generation, step: 5, attempt: 1, shard: 0 })
  await settled()
  expect(worker.of('tallied')).toEqual([{ type: 'tallied', generation, step: 5, attempt: 1, shard: 0, digests }])
})
