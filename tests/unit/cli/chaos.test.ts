import { describe, expect, it } from 'vitest'
import { Disturbance } from '../../../server/cli/demo/chaos/disturbance.ts'
import { chaosPlan, seededNumbers, volunteerBlows, type Blow } from '../../../server/cli/demo/chaos/plan.ts'
import { Presence } from '../../../server/cli/demo/chaos/presence.ts'
import { blowLines, chaosSummary, chaosSummarySchema, newcomerLines } from '../../../server/cli/demo/chaos/report.ts'
import { announced, silent, Takeovers } from '../../../server/cli/demo/chaos/takeovers.ts'
import { compareTrajectories, isSame } from '../../../server/cli/demo/chaos/trajectory.ts'
import type { ClientMessage, ServerMessage } from '../../../src/protocol/control.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'

describe('chaosPlan', () => {
  it('is the same for the same seed, and another for another', () => {
    expect(chaosPlan(7, 60)).toEqual(chaosPlan(7, 60))
    expect(chaosPlan(7, 60)).not.toEqual(chaosPlan(8, 60))
  })

  it.each([1, 2, 3, 99])(
    'of seed %d kills the server once at the middle, and does every other thing before twice',
    (seed) => {
      const plan = chaosPlan(seed, 60)
      expect(plan.filter(({ what }) => what === 'server').map(({ atStep }) => atStep)).toEqual([30])
      const others = plan.filter(({ what }) => what !== 'server').map(({ what }) => what)
      expect(others.length).toBeGreaterThanOrEqual(9)
      expect([...others.slice(0, 5)].sort()).toEqual([...volunteerBlows].sort())
      expect(new Set(others.slice(5, 10)).size).toBe(Math.min(5, others.length - 5))
    },
  )

  it('goes through the steps in order, a few apart, and leaves the first and the last alone', () => {
    const steps = chaosPlan(5, 60)
      .filter(({ what }) => what !== 'server')
      .map(({ atStep }) => atStep)
    expect(steps[0]).toBe(3)
    expect(steps.at(-1)).toBeLessThanOrEqual(58)
    for (let i = 1; i < steps.length; i++) {
      expect(steps[i]! - steps[i - 1]!).toBeGreaterThanOrEqual(4)
      expect(steps[i]! - steps[i - 1]!).toBeLessThanOrEqual(6)
    }
    const all = chaosPlan(5, 60).map(({ atStep }) => atStep)
    expect(all).toEqual([...all].sort((a, b) => a - b))
  })

  it('freezes a browser for longer than the server is patient', () => {
    const freezes = chaosPlan(1, 400).filter(({ what }) => what === 'freeze')
    expect(freezes.length).toBeGreaterThan(5)
    for (const { awayMs } of freezes) expect(awayMs).toBeGreaterThanOrEqual(8000)
  })

  it('does nothing to a run that is over before anything could happen', () => {
    expect(chaosPlan(1, 2)).toEqual([])
  })
})

it('draws numbers from 0 up to 1, evenly', () => {
  const next = seededNumbers(1)
  const values = Array.from({ length: 10_000 }, next)
  expect(Math.min(...values)).toBeGreaterThanOrEqual(0)
  expect(Math.max(...values)).toBeLessThan(1)
  expect(values.filter((value) => value < 0.25).length / values.length).toBeCloseTo(0.25, 1)
  expect(new Set(values).size).toBeGreaterThan(9990)
})

const stats = {
  tokens: 0,
  steps: 0,
  upBytes: 0,
  downBytes: 0,
  boundaryBytes: 0,
  boundaryTokens: 0,
  link: 'unknown',
} as const
const table = (...microbatches: number[]) => ({
  peers: [],
  leases: microbatches.map((m): [number, number, number] => [m, -1, -1]),
})

/** A page that was opened at 1000 and speaks as the protocol has it, each message in an envelope. */
function page(stage: number) {
  const presence = new Presence(1000)
  let n = 0
  const hear = (message: ServerMessage, at: number) =>
    presence.received(JSON.stringify(message.type === 'welcome' ? message : { a: 0, n: ++n, m: message }), at)
  const say = (message: ClientMessage, at: number) => presence.sent(JSON.stringify({ a: 0, n: ++n, m: message }), at)
  const assign = (generation = 1) =>
    hear(
      {
        type: 'assign',
        assignment: {
          runId: 'r',
          runName: 'run',
          generation,
          stage,
          config: runConfigSchema.parse({}),
          dataset: { id: 'd', tokens: 9, trainTokens: 8 },
          source: 'peers',
          checkpoint: { step: 0, stage: { stage, chunks: [] } },
          finish: null,
        },
      },
      1500,
    )
  const step = (step: number, at: number, ...microbatches: number[]) =>
    hear(
      {
        type: 'step',
        generation: 1,
        step,
        mode: 'train',
        version: 1,
        ...table(...microbatches),
        owners: [],
        committed: step - 1,
        window: 2,
      },
      at,
    )
  const leases = (step: number, at: number, ...microbatches: number[]) =>
    hear({ type: 'leases', generation: 1, step, version: 2, ...table(...microbatches) }, at)
  const ready = (step: number, at: number) => say({ type: 'ready', generation: 1, step, expectedMs: null }, at)
  const finished = (step: number, at: number) =>
    say({ type: 'finished', generation: 1, step, version: 1, losses: [], busyMs: 5 }, at)
  assign()
  return { presence, hear, say, assign, step, leases, ready, finished }
}

describe('Presence', () => {
  it('knows from its control line who it is, what it holds and when it first computed', () => {
    const { presence, hear, ready, step, finished } = page(1)
    const token = { resumed: false, received: 0, token: 't', heartbeatMs: 1000, iceServers: [] }
    hear({ type: 'welcome', nodeId: 'n7', ...token }, 1400)
    ready(4, 3000)
    step(5, 3200, 0, 2)
    expect(presence).toMatchObject({ nodeId: 'n7', stage: 1, step: 5, readyAt: 3000, leasedAt: 3200 })
    expect([...presence.leases]).toEqual([0, 2])
    expect(presence.firstMicrobatchSeconds()).toBeNull()
    finished(5, 3700)
    finished(6, 9000)
    expect(presence.firstMicrobatchSeconds()).toBe(2.7)
  })

  it('counts work that a heartbeat tells of before the leases are finished', () => {
    const { presence, say, step } = page(0)
    say({ type: 'heartbeat', phase: 'training', progress: null, stats }, 2000)
    step(5, 3200, 0, 2)
    say({ type: 'heartbeat', phase: 'training', progress: null, stats: { ...stats, tokens: 64 } }, 3500)
    expect(presence.firstMicrobatchSeconds()).toBe(2.5)
  })

  it('leaves out the time for which it stood by, ready and not needed', () => {
    const { presence, ready, step, finished } = page(0)
    step(4, 2000)
    ready(4, 3000)
    step(5, 3200)
    step(6, 4200)
    step(7, 63_200, 1)
    finished(7, 63_700)
    expect(presence.firstMicrobatchSeconds()).toBe(2.7)
  })

  it('holds nothing any more once it is revoked, released or sent to stand by', () => {
    const { presence, hear, ready, step } = page(0)
    ready(4, 3000)
    step(5, 3200, 0, 1)
    hear({ type: 'revoked', generation: 1, step: 5 }, 3300)
    expect(presence.leases.size).toBe(0)
    step(6, 3400, 0, 1)
    hear({ type: 'release', generation: 1, reason: 'over' }, 3500)
    expect(presence.leases.size).toBe(0)
  })

  it('knows since when it owns which shards, and starts anew after it was away', () => {
    const { presence, hear } = page(0)
    const welcome = { type: 'welcome', nodeId: 'n7', resumed: false, received: 0, token: 't' } as const
    hear({ ...welcome, heartbeatMs: 1000, iceServers: [] }, 1400)
    const step = (step: number, ...owners: string[][]) =>
      hear(
        {
          type: 'step',
          generation: 1,
          step,
          mode: 'train',
          version: 1,
          ...table(),
          owners,
          committed: step - 1,
          window: 2,
        },
        2000,
      )
    step(5, ['n7', 'n8'], ['n8'])
    step(6, ['n7', 'n8'], ['n8', 'n9', 'n7'])
    expect([...presence.owned]).toEqual([
      [0, 5],
      [1, 6],
    ])
    hear({ type: 'owners', generation: 1, step: 6, owners: [['n8'], ['n8', 'n7']] }, 2100)
    expect([...presence.owned]).toEqual([[1, 6]])
    presence.away = true
    presence.back(20)
    expect(presence).toMatchObject({ away: false, owned: new Map() })
    // Told late, of what was long ago.
    step(7, ['n7', 'n8'], ['n8'])
    expect([...presence.owned]).toEqual([[0, 21]])
  })

  it('lets pass what it does not understand', () => {
    const { presence } = page(0)
    presence.received('{', 1)
    presence.received('{"a":3}', 1)
    presence.sent('[]', 1)
    expect(presence.stage).toBe(0)
  })
})

const blow = (what: Blow['what']): Blow => ({
  atStep: 3,
  moment: 0,
  what,
  victim: 0,
  awayMs: 1000,
  sameProfile: false,
})
const struck = (what: Blow['what'], at: number, stage: number | null = 0) => ({
  blow: blow(what),
  at,
  step: 4,
  stage,
  leases: 2,
  underway: 5,
  seconds: null,
  stood: false,
})

describe('Takeovers', () => {
  it('are over once every microbatch of the stage is leased to somebody who lives', () => {
    const [victim, mate, other] = [page(0), page(0), page(1)]
    victim.step(5, 2000, 0, 1)
    mate.step(5, 2000, 2, 3)
    other.step(5, 2000, 0, 1, 2, 3)
    const takeovers = new Takeovers(4)
    const present = [victim.presence, mate.presence, other.presence]
    victim.presence.away = true
    takeovers.add(struck('kill', 3000))
    takeovers.look(present, 3100)
    expect(takeovers.pending).toBe(1)
    mate.leases(5, 4500, 2, 3, 0, 1)
    takeovers.look(present, 4500)
    expect(takeovers.pending).toBe(0)
    expect(takeovers.longest(silent)).toBe(1.5)
    expect(takeovers.longest(announced)).toBeNull()
  })

  it('do not count what was leased for a step that is over, nor who had finished when it was hit', () => {
    const [mate, other] = [page(0), page(1)]
    mate.step(5, 2000, 0, 1, 2, 3)
    other.step(6, 2500, 0, 1, 2, 3)
    const takeovers = new Takeovers(4)
    takeovers.add(struck('close', 2400))
    takeovers.look([mate.presence, other.presence], 2600)
    expect(takeovers.pending).toBe(1)
    mate.step(6, 2700, 0, 1, 2, 3)
    takeovers.look([mate.presence, other.presence], 2700)
    expect([takeovers.pending, takeovers.longest(announced), takeovers.stood]).toEqual([0, null, 1])
    expect(blowLines(takeovers)[1]).toMatch(/had finished/)
  })

  it('of the server are over with the next commit', () => {
    const takeovers = new Takeovers(4)
    takeovers.add(struck('server', 1000, null))
    takeovers.look([], 2000)
    expect(takeovers.pending).toBe(1)
    takeovers.committed(4000)
    expect(takeovers.longest(new Set(['server'] as const))).toBe(3)
  })
})

describe('Disturbance', () => {
  it('kills the server at its step although no volunteer can be spared, and no volunteer then', async () => {
    const told: string[] = []
    const tell = (what: string) => () => Promise.resolve(void told.push(what))
    const crew = { changed: () => {}, committed: 0, present: [], spareable: () => [], strike: tell('struck') }
    const server = { kill: tell('killed'), restart: tell('started') }
    const plan = [blow('kill'), { ...blow('server'), atStep: 5, awayMs: 0 }]
    const disturbance = new Disturbance({ plan, crew, server, microbatches: 4, stepMs: 0, say: () => {} })
    const over = disturbance.run()
    for (let step = 1; step <= 4; step++) disturbance.committed(step)
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(told).toEqual([])
    disturbance.committed(5)
    await expect.poll(() => told).toEqual(['killed', 'started'])
    disturbance.end()
    await over
    expect(disturbance.takeovers.struck.map(({ blow, step }) => [blow.what, step])).toEqual([['server', 5]])
  })
})

describe('compareTrajectories', () => {
  const losses = (...values: number[]) => values.map((loss, i) => ({ step: i + 1, loss }))

  it('finds the largest relative difference and its step', () => {
    const difference = compareTrajectories(losses(4, 2, 1), losses(4, 2.0001, 1), 3)
    expect(difference.largest).toBeCloseTo(5e-5, 10)
    expect(difference).toMatchObject({ atStep: 2, missing: [] })
    expect(isSame(difference)).toBe(true)
  })

  it('is not the same run with a larger difference, a missing step or a loss that is no number', () => {
    expect(isSame(compareTrajectories(losses(4, 2, 1), losses(4, 2.0003, 1), 3))).toBe(false)
    expect(compareTrajectories(losses(4, 2, 1), losses(4, 2), 3).missing).toEqual([3])
    expect(isSame(compareTrajectories(losses(4, 2, 1), losses(4, 2), 3))).toBe(false)
    expect(isSame(compareTrajectories(losses(4, 2, 1), losses(4, NaN, 1), 3))).toBe(false)
  })
})

describe('chaosSummary', () => {
  const takeovers = () => {
    const all = new Takeovers(4)
    all.struck.push(
      { ...struck('kill', 0), seconds: 1.25 },
      { ...struck('freeze', 0), seconds: 6.5 },
      { ...struck('close', 0), seconds: 0.25 },
      { ...struck('reload', 0), seconds: 0.125 },
      { ...struck('server', 0, null), seconds: 3 },
    )
    return all
  }

  it('counts the blows and keeps the longest of each way of learning of them', () => {
    const { presence, ready, step, finished } = page(0)
    ready(4, 3000)
    step(5, 3200, 0)
    finished(5, 3700)
    const still = new Presence(0)
    const run = { recovered: 9, rollbacks: 0 }
    const difference = { largest: 2e-6, atStep: 3, missing: [] }
    const summary = chaosSummary(7, [{ loss: 5 }, { loss: 4 }], run, takeovers(), [presence, still], difference)
    expect(chaosSummarySchema.parse(summary)).toEqual({
      seed: 7,
      kills: 1,
      freezes: 1,
      leaves: 1,
      reloads: 1,
      pauses: 0,
      serverKills: 1,
      recoveredLeases: 9,
      rollbacks: 0,
      largestDifference: 2e-6,
      undisturbedLoss: [5, 4],
      takeoverSeconds: { silence: 6.5, pagehide: 0.25 },
      finishedBefore: 0,
      serverSeconds: 3,
      firstMicrobatchSeconds: { max: 2.7, median: 2.7 },
    })
    expect(
      chaosSummary(7, [{ loss: 5 }, { loss: 4 }], run, takeovers(), [], { ...difference, missing: [2] }),
    ).toMatchObject({
      largestDifference: null,
      firstMicrobatchSeconds: { max: null, median: null },
    })
  })

  it('prints a line for each blow and each newcomer', () => {
    const lines = blowLines(takeovers())
    expect(lines).toHaveLength(6)
    expect(lines[1]).toMatch(/^ {2}kill +4 +1 +2 +1\.25 s +a stranger$/)
    expect(lines[5]).toMatch(/^ {2}server +4 +3\.00 s/)
    expect(newcomerLines([page(1).presence])[1]).toMatch(/^ {2}1 +2 +0\.50 s +not yet +was not needed$/)
  })
})
