/** Proves that the executor carries out what the machine asks for: on a model in its order, over links that fail, to the server. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { ServerMessage } from '../../../src/protocol/control.ts'
import { SkeinError } from '../../../src/protocol/errors.ts'
import { encodeFrame, FRAME_KINDS } from '../../../src/protocol/frame.ts'
import { wantFrame } from '../../../src/stage/frames.ts'
import { assignment, boundary, generation, OWNERS, PlayedWorker, rows, settled, stage, stepMessage } from './playedWorker.ts' // prettier-ignore

const linkLost = new SkeinError({ code: 'net.link_lost', message: 'Gone.', remedy: '' })

let worker: PlayedWorker
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] })
  worker = new PlayedWorker()
  worker.hear({
    type: 'welcome',
    nodeId: 'me',
    resumed: false,
    received: 0,
    token: 't',
    heartbeatMs: 1000,
    iceServers: [],
  })
})
afterEach(async () => {
  await worker.executor.close()
  vi.useRealTimers()
  vi.unstubAllGlobals()
})

/** Assigned, with the parameters of step 4 in place, at the start of step 5. */
async function atWork(change: Partial<Extract<ServerMessage, { type: 'step' }>> = {}) {
  worker.hear({ type: 'assign', assignment })
  await settled()
  worker.model.calls.length = 0
  worker.hear(stepMessage(change))
  worker.takeParameters(4, 1)
  await settled()
}

/** The one microbatch of step 5, forward and backward. */
async function compute() {
  worker.take('up', 'activation', 0, 5, boundary(10))
  await settled()
  worker.take('down', 'gradient', 0, 5, boundary(20))
  await settled()
}

describe('a step that is computed', () => {
  it('is told of with what the links of its lanes were found to do', async () => {
    await atWork()
    await compute()
    expect(worker.of('finished')[0]!.links).toEqual([['up', 80, 1e6]])
  })
})

describe('an assignment', () => {
  it('is ready once its parameters have come from the owners, without any link being waited for', async () => {
    worker.hear({ type: 'assign', assignment })
    await settled()
    expect(worker.phases).toEqual(['compiling', 'loading'])
    worker.hear(stepMessage())
    expect(worker.partners).toEqual(['up', 'down', 'o1', 'o2'])
    expect(worker.frames('want').map(({ to, frame }) => [to, frame.columns, frame.index, frame.step])).toEqual([
      ['o1', FRAME_KINDS.parameterShard, 0, 4],
      ['o2', FRAME_KINDS.parameterShard, 1, 4],
    ])
    expect(worker.of('ready')).toEqual([])
    worker.takeParameters(4, 1)
    await settled()
    expect(worker.of('ready')).toEqual([
      { type: 'ready', generation, step: 4, expectedMs: expect.any(Number) as number, links: [['up', 80, 1e6]] },
    ])
    expect(worker.model.parameters.every((x) => x === 1)).toBe(true)
    expect(worker.phases.at(-1)).toBe('ready')
  })

  it('tries its model out before, and leaves no trace of it in the gradient', async () => {
    worker.hear({ type: 'assign', assignment })
    await settled()
    expect(worker.model.calls).toEqual(['forward 0', 'backward 0', 'forward 0', 'backward 0', 'beginStep'])
    expect(worker.model.gradient.every((x) => x === 0)).toBe(true)
  })

  it('is on standby in a step without leases, and takes the parameters of the step before all the same', async () => {
    await atWork()
    worker.hear(stepMessage({ step: 6, committed: 5, version: 0, peers: [], leases: [] }))
    expect(worker.phases.at(-1)).toBe('standby')
    expect(worker.partners).toEqual(['o1', 'o2'])
    worker.takeParameters(5, 2)
    await settled()
    expect(worker.model.parameters.every((x) => x === 2)).toBe(true)
    expect(worker.phases.at(-1)).toBe('standby')
  })

  it('goes on with its model under a new generation, behind what still changes it', async () => {
    await atWork()
    const wanted = { kind: 'parameterShard', generation, step: 4, index: 0, boundary: stage, attempt: 0 } as const
    let open = () => {}
    worker.model.gate = new Promise((resolve) => (open = resolve))
    worker.executor.receive('joiner', wantFrame(wanted))
    worker.hear(stepMessage({ step: 6, committed: 5 }))
    worker.take('up', 'activation', 0, 6, boundary(10))
    worker.takeParameters(5, 2)
    await settled()
    expect(worker.model.parameters.every((x) => x === 1)).toBe(true)
    worker.hear({ type: 'assign', assignment: { ...assignment, generation: 8, source: 'held' } })
    worker.hear(stepMessage({ generation: 8, step: 6, committed: 5 }))
    open()
    await settled()
    expect(worker.models).toHaveLength(1)
    expect(worker.model.parameters.every((x) => x === 2)).toBe(true)
    expect(worker.of('ready').at(-1)).toMatchObject({
      generation: 8,
      step: 5,
      expectedMs: expect.any(Number) as number,
    })
    // Nothing of the generation before is computed or sent in the new one.
    expect(worker.model.calls.filter((call) => call.startsWith('forward'))).toEqual([])
    expect(worker.frames('parameterShard')).toEqual([])
    expect(worker.executor.holding).toMatchObject({ generation: 8, stage, step: 5 })
  })

  it('frees the model and lets its neighbours go when the volunteer pauses', async () => {
    await atWork()
    worker.executor.drop()
    await settled()
    expect(worker.model.destroyed).toBe(true)
    expect(worker.partners).toEqual([])
    expect(worker.executor.holding).toBeNull()
  })
})

describe('a step', () => {
  it('goes forward, backward and into the owners’ sums', async () => {
    await atWork()
    await compute()
    const [activation] = worker.frames('activation')
    expect(activation).toMatchObject({ to: 'down', frame: { step: 5, index: 0, boundary: 1, rows, columns: 4 } })
    expect(new Float32Array(activation!.frame.payload.slice().buffer)).toEqual(boundary(11))
    expect(worker.frames('gradient')).toMatchObject([{ to: 'up', frame: { boundary: 0, index: 0 } }])
    expect(worker.of('finished')).toMatchObject([{ step: 5, version: 1, losses: [] }])
    expect(worker.said.indexOf(worker.of('receipt')[0]!)).toBeLessThan(worker.said.indexOf(worker.of('finished')[0]!))
    expect(worker.of('finished')[0]!.busyMs).toBeGreaterThanOrEqual(0)
    const shares = worker.frames('gradientShard').map(({ to, frame }) => [to, frame.index, frame.attempt])
    expect(shares.sort()).toEqual([
      ['o1', 0, 1],
      ['o1', 1, 1],
      ['o2', 0, 1],
      ['o2', 1, 1],
    ])
    expect(worker.model.calls.indexOf('beginStep')).toBeLessThan(worker.model.calls.indexOf('forward 0'))
    expect(worker.executor.stats).toMatchObject({ tokens: rows, boundaryTokens: 2 * rows, steps: 0 })
    worker.hear(stepMessage({ step: 6, committed: 5 }))
    expect(worker.executor.stats.steps).toBe(1)
  })

  it('is summed, updated and sent by a first owner', async () => {
    const owners = [['me', 'o2'], ['o2']]
    await atWork({ owners: [['me', 'o1', 'o2'], OWNERS[1]!] })
    await ownShard(owners)
    const apply = { type: 'apply', generation, step: 5, lr: 0.5, scale: 1, owners, receivers: ['me', 'r'] } as const
    worker.hear(structuredClone(apply) as never)
    await settled()
    expect(worker.of('updated')).toEqual([{ type: 'updated', generation, step: 5, shard: 0 }])
    const [parameters] = worker.frames('parameterShard')
    expect(parameters).toMatchObject({ to: 'r', frame: { step: 5, index: 0, boundary: stage } })
    expect(new Float32Array(parameters!.frame.payload.slice().buffer).every((x) => x === 0.5)).toBe(true)
    expect(worker.partners).toContain('r')
  })

  it.each([
    ['alike', 0.5, true],
    ['otherwise', 0.75, false],
  ])('is compared by a second owner: the first one updated %s', async (_, theirs, agrees) => {
    const owners = [['o1', 'me'], ['o2']]
    await atWork({ owners: [['o1', 'me'], OWNERS[1]!] })
    await ownShard(owners)
    const { length } = worker.shards[0]!
    worker.take('o1', 'parameterShard', 0, 5, new Float32Array(length).fill(theirs))
    const apply = { type: 'apply', generation, step: 5, lr: 0.5, scale: 1, owners, receivers: ['me'] } as const
    worker.hear(structuredClone(apply) as never)
    await settled()
    expect(worker.of('compared')).toEqual([{ type: 'compared', generation, step: 5, shard: 0, agrees }])
    // The stage goes by the first owner's bytes in either case.
    expect(worker.model.parameters[0]).toBe(theirs)
    expect(worker.of('updated')).toEqual([])
  })

  it('gives the shard it holds to whoever asks, moments as two vectors', async () => {
    const owners = [['me', 'o2'], ['o2']]
    await atWork({ owners: [['me', 'o1', 'o2'], OWNERS[1]!] })
    await ownShard(owners)
    const { length } = worker.shards[0]!
    for (const kind of ['parameterShard', 'momentShard'] as const) {
      const address = { kind, generation, step: 4, index: 0, boundary: stage, attempt: 0 }
      worker.executor.receive('joiner', wantFrame(address))
      await settled()
      const { to, frame } = worker.frames(kind).at(-1)!
      expect([to, frame.step, frame.rows, frame.columns]).toEqual(['joiner', 4, kind === 'momentShard' ? 2 : 1, length])
    }
    const moments = new Float32Array(worker.frames('momentShard')[0]!.frame.payload.slice().buffer)
    expect([moments[0], moments[length - 1], moments[length], moments.at(-1)]).toEqual([5, 5, 6, 6])
  })

  /** Brings the moments and everything else that lets this node sum shard 0, and sums it. */
  async function ownShard(owners: string[][]) {
    const { length } = worker.shards[0]!
    const moments = new Float32Array(2 * length).fill(5, 0, length).fill(6, length)
    worker.take('o1', 'momentShard', 0, 4, moments)
    await settled()
    expect(worker.of('held')).toEqual([{ type: 'held', generation, step: 4, shard: 0 }])
    await compute()
    worker.hear({ type: 'owners', generation, step: 5, owners })
    const reduce = { type: 'reduce', generation, step: 5, attempt: 1, contributors: [['me', 1], ['o2', 3]] } as const // prettier-ignore
    worker.hear(structuredClone(reduce) as never)
    worker.take('o2', 'gradientShard', 0, 5, new Float32Array(length).fill(2), 3)
    await settled()
    // One of its own and two of the other's.
    expect(worker.of('reduced')).toMatchObject([{ step: 5, attempt: 1, shard: 0, squaredNorm: 9 * length }])
  }
})

describe('a save', () => {
  it('reads in the order of the GPU’s work and uploads beside it', async () => {
    const puts: string[] = []
    let answer = () => {}
    vi.stubGlobal('fetch', (url: string) => {
      puts.push(url)
      return new Promise((resolve) => (answer = () => resolve(new Response())))
    })
    const chunks: [] = []
    const checkpoint = { step: 4, stage: { stage, chunks } }
    worker.hear({ type: 'assign', assignment: { ...assignment, source: 'checkpoint', checkpoint } })
    await settled()
    worker.model.calls.length = 0
    expect(worker.of('ready')).toMatchObject([{ generation, step: 4 }])
    worker.hear(stepMessage())
    worker.hear({ type: 'save', generation, step: 4, shards: [0] })
    await compute()
    // The upload has had no answer; the step is done all the same.
    await expect.poll(() => worker.of('finished')).toHaveLength(1)
    expect(worker.of('shardSaved')).toEqual([])
    for (let i = 0; i < 3; i++) {
      await vi.waitFor(() => expect(puts).toHaveLength(i + 1))
      answer()
    }
    await vi.waitFor(() => expect(worker.of('shardSaved')).toHaveLength(1))
    const { length } = worker.shards[0]!
    expect(worker.of('shardSaved')[0]).toMatchObject({ step: 4, shard: 0 })
    expect(worker.of('shardSaved')[0]!.chunks.map(({ kind, offset, length: l }) => [kind, offset, l])).toEqual(
      ['parameters', 'firstMoment', 'secondMoment'].map((kind) => [kind, 0, length]),
    )
    const reads = worker.model.calls.map((call, i) => (call.startsWith('read ') ? i : -1)).filter((i) => i >= 0)
    expect(Math.max(...reads)).toBeLessThan(worker.model.calls.indexOf('forward 0'))
  })

  it('that cannot be uploaded costs the checkpoint, not what stands here', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'setTimeout', 'clearTimeout', 'performance'] })
    let asked = 0
    vi.stubGlobal('fetch', () => ((asked += 1), Promise.reject(new Error('refused'))))
    worker.hear({ type: 'assign', assignment: { ...assignment, source: 'checkpoint' } })
    await settled()
    worker.hear(stepMessage({ committed: 0, step: 1 }))
    worker.hear({ type: 'save', generation, step: 0, shards: [0] })
    // Hashing is done by no clock that a test can turn.
    await vi.waitUntil(async () => (await vi.advanceTimersByTimeAsync(1000), worker.failures.length > 0), {
      timeout: 20_000,
      interval: 1,
    })
    expect(asked).toBeGreaterThan(10)
    expect(worker.failures[0]!.code).toBe('transfer.failed')
    expect(worker.of('failed')).toEqual([])
    expect(worker.executor.holding).toMatchObject({ generation, step: 0 })
  })
})

describe('frames that are bad, and links that are', () => {
  const header = { kind: 'activation', codec: 'f32', generation, step: 5, index: 0, boundary: 0, attempt: 0 } as const
  it.each([
    ['that is none', new Uint8Array(100)],
    ['of half a sequence', encodeFrame({ ...header, rows: 1, columns: 4 }, new Uint8Array(16))],
    ['of too many sequences', encodeFrame({ ...header, rows: 6, columns: 4 }, new Uint8Array(96))],
    ['whose size is another', encodeFrame({ ...header, rows: 4, columns: 4 }, new Uint8Array(32))],
    ['in another codec', encodeFrame({ ...header, codec: 'f16', rows: 4, columns: 4 }, new Uint8Array(64))],
    ['of a shard that is none', encodeFrame({ ...header, kind: 'parameterShard', index: 2, rows: 1, columns: 4 }, new Uint8Array(16))], // prettier-ignore
    ['of moments that are half', encodeFrame({ ...header, kind: 'momentShard', rows: 1, columns: 64 }, new Uint8Array(256))], // prettier-ignore
    [
      'that asks for nothing there is',
      encodeFrame({ ...header, kind: 'want', rows: 0, columns: 6 }, new Uint8Array(0)),
    ],
  ])('a frame %s is dropped, and what it may have been is asked for again', async (_, bytes) => {
    await atWork()
    worker.executor.receive('up', bytes)
    worker.executor.receive('up', bytes)
    await settled()
    expect(worker.executor.badFrames).toBe(2)
    expect(worker.of('failed')).toEqual([])
    expect(worker.failures).toEqual([])
    // Once until the next tick, however many there are.
    expect(worker.of('linkLost')).toEqual([{ type: 'linkLost', generation, node: 'up' }])
    expect(worker.frames('want').at(-1)).toMatchObject({
      to: 'up',
      frame: { columns: FRAME_KINDS.activation, step: 5 },
    })
    await compute()
    await expect.poll(() => worker.of('finished')).toHaveLength(1)
  })

  it('a frame of another generation is none of its business', async () => {
    await atWork()
    worker.executor.receive('up', encodeFrame({ ...header, generation: 6, rows: 1, columns: 1 }, new Uint8Array(4)))
    expect(worker.executor.badFrames).toBe(0)
    expect(worker.of('linkLost')).toEqual([])
  })

  it('a tensor that could not be sent is told as a lost link, and sent when it is asked for', async () => {
    await atWork()
    worker.broken = linkLost
    worker.take('up', 'activation', 0, 5, boundary(10))
    await settled()
    expect(worker.of('linkLost')).toEqual([{ type: 'linkLost', generation, node: 'down' }])
    worker.broken = null
    const address = { kind: 'activation', generation, step: 5, index: 0, boundary: 1, attempt: 0 } as const
    worker.executor.receive('down', wantFrame(address))
    await settled()
    expect(worker.frames('activation')).toMatchObject([{ to: 'down' }])
    // It is on its way over that link now.
    worker.executor.receive('down', wantFrame(address))
    expect(worker.frames('activation')).toHaveLength(1)
    worker.executor.linkLost('down')
    worker.executor.receive('down', wantFrame(address))
    expect(worker.frames('activation')).toHaveLength(2)
    expect(worker.of('failed')).toEqual([])
  })

  it('a full queue is no lost link', async () => {
    await atWork()
    worker.broken = new SkeinError({ code: 'net.queue_full', message: 'Full.', remedy: '' })
    worker.take('up', 'activation', 0, 5, boundary(10))
    await settled()
    expect(worker.of('linkLost')).toEqual([])
    expect(worker.of('failed')).toEqual([])
  })

  it('asks again by its clock for what does not come, until it is closed', async () => {
    await atWork()
    const asked = () => worker.frames('want').filter(({ frame }) => frame.columns === FRAME_KINDS.activation).length
    for (let i = 0; i < 4; i++) {
      vi.advanceTimersByTime(1000)
      await settled()
    }
    expect(asked()).toBeGreaterThan(1)
    expect(worker.of('waiting').at(-1)).toMatchObject({ step: 5, on: ['up'] })
    const before = asked()
    await worker.executor.close()
    vi.advanceTimersByTime(5000)
    expect(asked()).toBe(before)
  })

  it('a device that gives up fails the generation', async () => {
    await atWork()
    worker.model.gate = Promise.reject(new SkeinError({ code: 'gpu.lost', message: 'Gone.', remedy: '' }))
    worker.take('up', 'activation', 0, 5, boundary(10))
    await settled()
    expect(worker.of('failed')).toMatchObject([{ generation, error: { code: 'gpu.lost' } }])
    expect(worker.failures).toHaveLength(1)
  })
})
