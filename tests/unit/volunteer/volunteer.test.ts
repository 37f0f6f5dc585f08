/** Proves the volunteer against a page that is made up and a Worker that is played: restarts, pauses, totals, one tab. */
import { beforeEach, describe, expect, it } from 'vitest'
import { SkeinError, type ErrorBody } from '../../../src/protocol/errors.ts'
import type { StageEvent } from '../../../src/stage/workerContract.ts'
import { addContribution, NO_CONTRIBUTION, type Contribution } from '../../../src/store/device.ts'
import { memoryReceipts } from '../../../src/store/receipts.ts'
import type { VolunteerEnvironment } from '../../../src/volunteer/environment.ts'
import type { LeadershipEvents } from '../../../src/volunteer/leader.ts'
import type { StageProcessOptions } from '../../../src/volunteer/stageProcess.ts'
import { createVolunteer } from '../../../src/volunteer/volunteer.ts'

const error = { code: 'gpu.lost', message: 'Gone.', remedy: 'Wait.' }
const assigned = { type: 'assigned', run: { id: 'r1', name: 'Stories' }, stage: 1, stages: 4 } as const
const stats = (tokens: number, steps: number): StageEvent => ({
  type: 'stats',
  stats: { tokens, steps, upBytes: 10 * steps, downBytes: steps, boundaryBytes: 0, boundaryTokens: 0, link: 'direct' },
})

/** A page whose every part the test plays. */
class Page implements VolunteerEnvironment {
  webgpu = true
  otherTab = false
  readonly identity = { id: 'device-1', privateKey: {} as CryptoKey }
  noKey: ErrorBody | null = null
  stored: Contribution = { ...NO_CONTRIBUTION }
  leadership: LeadershipEvents | null = null
  leading = false
  readonly stages: { options: StageProcessOptions; calls: string[] }[] = []
  timers: { ms: number; run: () => void }[] = []
  page = { hidden: () => {}, restored: () => {} }

  address = () => ({ origin: 'https://skein.example', search: '' })
  facts = () => ({ secureContext: true, webgpu: this.webgpu, webrtc: true, locks: true, deviceMemoryGiB: 8 })
  openDevice = () => {
    if (this.noKey) return Promise.reject(new SkeinError(this.noKey))
    return Promise.resolve({
      identity: this.identity,
      contribution: () => Promise.resolve(this.stored),
      add: (more: Contribution) => {
        this.stored = addContribution(this.stored, more)
        return Promise.resolve()
      },
    })
  }
  readonly receipts = memoryReceipts()
  openReceipts = () => Promise.resolve(this.receipts)
  now = () => Date.UTC(2026, 10, 29, 12)
  seekLeadership = (events: LeadershipEvents) => {
    this.leadership = events
    if (this.otherTab) events.otherTab()
    else events.leading()
    this.leading = true
    return () => (this.leading = false)
  }
  startStage = (options: StageProcessOptions) => {
    const calls: string[] = []
    this.stages.push({ options, calls })
    const call = (name: string) => () => void calls.push(name)
    return { pause: call('pause'), resume: call('resume'), stop: call('stop') }
  }
  after = (ms: number, run: () => void) => {
    const timer = { ms, run }
    this.timers.push(timer)
    return () => (this.timers = this.timers.filter((t) => t !== timer))
  }
  onPage = (events: { hidden(): void; restored(): void }) => (this.page = events)

  /** The latest Worker says something. */
  say(...events: StageEvent[]) {
    for (const event of events) this.stages.at(-1)!.options.event(event)
  }
  /** Runs the one timer that is not the regular save. */
  retry(): number {
    const timer = this.timers.find((t) => t.ms !== 10_000)!
    this.timers = this.timers.filter((t) => t !== timer)
    timer.run()
    return timer.ms
  }
}

const settled = () => new Promise((resolve) => setImmediate(resolve))
let page: Page

async function atWork() {
  const volunteer = createVolunteer({ environment: page })
  volunteer.start()
  await settled()
  page.say({ type: 'control', connected: true }, assigned, { type: 'phase', phase: 'training', progress: null })
  return volunteer
}

beforeEach(() => {
  page = new Page()
})

describe('the volunteer', () => {
  it('starts nothing by itself, then one Worker with what it needs', async () => {
    const volunteer = createVolunteer({ environment: page })
    await settled()
    expect(page.stages).toHaveLength(0)
    volunteer.start()
    volunteer.start()
    await settled()
    expect(page.stages).toHaveLength(1)
    expect(page.stages[0]!.options).toMatchObject({
      origin: 'https://skein.example',
      start: {
        controlUrl: 'wss://skein.example/control',
        apiUrl: 'https://skein.example/api/v1',
        device: page.identity,
        allowSoftware: false,
        memoryBytes: 4 * 1024 ** 3,
      },
    })
  })

  it('tells its listeners each change, at once and until they leave', async () => {
    const volunteer = createVolunteer({ environment: page })
    const names: string[] = []
    const leave = volunteer.subscribe((snapshot) => names.push(snapshot.phase.name))
    volunteer.start()
    await settled()
    page.say({ type: 'control', connected: true })
    leave()
    page.say(assigned)
    expect(new Set(names)).toEqual(new Set(['idle', 'checking', 'waiting']))
    expect(volunteer.snapshot()).toMatchObject({ run: { name: 'Stories' }, stage: 1, stages: 4 })
  })

  it('tells what of its offer the device proved to have', async () => {
    const volunteer = await atWork()
    expect(volunteer.snapshot().memory).toBeNull()
    const memory = { memoryBytes: 3 * 1024 ** 3, triedBytes: 3 * 1024 ** 3 }
    page.say({ type: 'memory', memory })
    expect(volunteer.snapshot().memory).toEqual(memory)
  })

  it('is blocked without WebGPU before any Worker starts', async () => {
    page.webgpu = false
    const volunteer = createVolunteer({ environment: page })
    volunteer.start()
    await settled()
    expect(volunteer.snapshot().phase).toMatchObject({ name: 'blocked', error: { code: 'gpu.unavailable' } })
    expect(page.stages).toHaveLength(0)
  })

  it('is blocked where no key can be made, once the person starts', async () => {
    page.noKey = { code: 'identity.unsupported', message: 'No key.', remedy: 'Update.' }
    const volunteer = createVolunteer({ environment: page })
    await settled()
    expect(volunteer.snapshot().phase).toEqual({ name: 'idle' })
    volunteer.start()
    await settled()
    expect(volunteer.snapshot().phase).toEqual({ name: 'blocked', error: page.noKey })
    expect(page.stages).toHaveLength(0)
    expect(page.leading).toBe(false)
  })

  it('asks before it uses a software adapter, and starts anew on the person’s word', async () => {
    const volunteer = await atWork()
    page.say({ type: 'blocked', error: { ...error, code: 'gpu.software_adapter' } })
    expect(volunteer.snapshot().phase.name).toBe('blocked')
    expect(page.stages[0]!.calls).toEqual(['stop'])
    expect(page.leading).toBe(false)
    volunteer.start({ allowSoftware: true })
    await settled()
    expect(page.stages).toHaveLength(2)
    expect(page.stages[1]!.options.start.allowSoftware).toBe(true)
    expect(volunteer.snapshot()).toMatchObject({ phase: { name: 'checking' }, error: null })
  })

  it('restarts after a lost device and a crash, ever more slowly, and adds the totals up', async () => {
    const volunteer = await atWork()
    page.say(stats(100, 1), { type: 'deviceLost', error })
    expect(volunteer.snapshot()).toMatchObject({ phase: { name: 'lostDevice', retryInMs: 1000 }, run: null })
    page.stages[0]!.options.event(stats(1e9, 1e9))
    expect(page.retry()).toBe(1000)
    await settled()
    expect(page.stages).toHaveLength(2)
    page.stages[1]!.options.crashed(error)
    expect(page.retry()).toBe(2000)
    await settled()
    page.say(stats(50, 2))
    expect(volunteer.snapshot()).toMatchObject({ tokens: 150, steps: 3, upBytes: 30, downBytes: 3, error: null })
  })

  it('gives up after failures in a row, not after failures with steps between them', async () => {
    const volunteer = await atWork()
    for (let i = 1; i <= 20; i++) {
      page.say(stats(i, 1), { type: 'deviceLost', error })
      expect(page.retry()).toBe(1000)
      await settled()
    }
    // One failure stands since the last step.
    for (let i = 1; i < 8; i++) {
      page.say({ type: 'deviceLost', error })
      page.retry()
      await settled()
    }
    page.say({ type: 'deviceLost', error })
    expect(volunteer.snapshot().phase).toMatchObject({ name: 'blocked', error: { code: 'gpu.lost' } })
    expect(page.timers).toHaveLength(0)
  })

  it('waits for an adapter after a loss, and asks a person only where there never was one', async () => {
    const noAdapter = { ...error, code: 'gpu.no_adapter' }
    const volunteer = await atWork()
    page.say({ type: 'deviceLost', error })
    page.retry()
    await settled()
    page.say({ type: 'blocked', error: noAdapter })
    expect(volunteer.snapshot().phase).toMatchObject({ name: 'lostDevice', error: noAdapter, retryInMs: 2000 })

    const another = createVolunteer({ environment: (page = new Page()) })
    another.start()
    await settled()
    page.say({ type: 'blocked', error: noAdapter })
    expect(another.snapshot().phase).toMatchObject({ name: 'blocked', error: noAdapter })
  })

  it('stays paused over a lost device', async () => {
    const volunteer = await atWork()
    volunteer.pause()
    page.say({ type: 'deviceLost', error })
    page.retry()
    await settled()
    expect(volunteer.snapshot().phase.name).toBe('paused')
    expect(page.stages[1]!.calls).toEqual(['pause'])
    volunteer.resume()
    expect(page.stages[1]!.calls).toEqual(['pause', 'resume'])
  })

  it('keeps totals over visits and counts nothing twice', async () => {
    page.stored = { tokens: 1000, steps: 10, upBytes: 0, downBytes: 0 }
    const volunteer = await atWork()
    page.say(stats(100, 1))
    page.timers.find((t) => t.ms === 10_000)!.run()
    page.say(stats(150, 2))
    expect(volunteer.snapshot().lifetime).toMatchObject({ tokens: 1150, steps: 12 })
    volunteer.stop()
    volunteer.stop()
    expect(page.stored).toMatchObject({ tokens: 1150, steps: 12 })
    expect(volunteer.snapshot()).toMatchObject({ phase: { name: 'stopped' }, tokens: 150, lifetime: { tokens: 1150 } })
  })

  it('shows a failed generation until the next committed step', async () => {
    const volunteer = await atWork()
    page.say(stats(10, 1), { type: 'failed', error })
    expect(volunteer.snapshot()).toMatchObject({ error, phase: { name: 'training' } })
    page.say(stats(11, 1))
    expect(volunteer.snapshot().error).toEqual(error)
    page.say(stats(20, 2))
    expect(volunteer.snapshot().error).toBeNull()
  })

  it('adds up what the server credits, says why it refused the rest, and keeps its receipts', async () => {
    const volunteer = await atWork()
    const about = { kind: 'work', run: 'r1', generation: 1, stage: 0, device: 'd', receipt: 'e'.repeat(64) } as const
    const work = { ...about, step: 3, microbatches: 2, credit: '36028797018963969' }
    const credited = { type: 'credited', runId: 'r1', step: 3, stage: 0, work: [work], refused: [] } as const
    const refused = { ...credited, step: 4, work: [], refused: [{ microbatches: 3, error }] }
    page.say({ type: 'credited', credited: { ...credited, work: [work], refused: [] }, signed: [] })
    page.say({ type: 'credited', credited: refused, signed: [] })
    page.say({ type: 'credited', credited: { ...credited, step: 5, work: [work], refused: [] }, signed: [] })
    await settled()
    expect(volunteer.snapshot()).toMatchObject({ credit: 72057594037927938n, refused: 3, refusal: error })
    expect((await page.receipts.latest(2)).map(({ credited }) => credited.step)).toEqual([5, 4])
    expect(await page.receipts.days()).toEqual([
      { day: '2026-11-29', steps: 3, microbatches: 4, refused: 3, credit: 72057594037927938n },
    ])
  })

  it('waits while another tab leads, and takes over', async () => {
    page.otherTab = true
    const volunteer = createVolunteer({ environment: page })
    volunteer.start()
    await settled()
    expect(volunteer.snapshot().phase.name).toBe('otherTab')
    expect(page.stages).toHaveLength(0)
    page.leadership!.leading()
    await settled()
    expect(page.stages).toHaveLength(1)
  })

  it('leaves when the page goes away and goes on when it is restored', async () => {
    const volunteer = await atWork()
    page.page.hidden()
    expect(page.stages[0]!.calls).toEqual(['stop'])
    expect(page.leading).toBe(false)
    page.page.restored()
    await settled()
    expect(page.stages).toHaveLength(2)
    volunteer.stop()
    page.page.hidden()
    page.page.restored()
    await settled()
    expect(page.stages).toHaveLength(2)
  })

  it('starts nothing when it was stopped while the profile opened', async () => {
    const volunteer = createVolunteer({ environment: page })
    volunteer.start()
    volunteer.stop()
    await settled()
    expect(page.stages).toHaveLength(0)
    expect(volunteer.snapshot().phase.name).toBe('stopped')
  })
})
