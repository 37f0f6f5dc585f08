/** Proves the audit desk over a real store and ledger: who shows what, what a verdict costs, and what outlives the server. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { AuditPolicy } from '../../../server/audits/policy.ts'
import type { AuditedRuns } from '../../../server/audits/desk/port.ts'
import { AuditDesk } from '../../../server/audits/desk/desk.ts'
import { digestOf, exhibitsOf, shardsToDraw } from '../../../server/audits/desk/exhibits.ts'
import { openSqliteStore } from '../../../server/db/sqlite.ts'
import { Ledger } from '../../../server/ledger/ledger.ts'
import { serverClock } from '../../../server/ledger/sealing.ts'
import type { WorkClaim } from '../../../server/orchestrator/types.ts'
import { evidenceText } from '../../../src/audit/evidence.ts'
import { encodedBytes } from '../../../src/codec/size.ts'
import type { EvidenceMessage } from '../../../src/protocol/audit.ts'
import type { ServerMessage } from '../../../src/protocol/control.ts'
import type { ErrorBody } from '../../../src/protocol/errors.ts'
import type { LedgerEntry } from '../../../src/protocol/ledger.ts'
import { work } from '../ledger/sampleLedger.ts'
import { claimOf, config, device, lies, replicas, shares, STAGE, truth } from './claimedWork.ts'
import { checkpoint, dataset, run } from '../server/store.compliance.ts'

let folder: string
let store: Awaited<ReturnType<typeof openSqliteStore>>
let ledger: Ledger
let desk: AuditDesk
let sent: { nodeId: string; message: ServerMessage }[]
let happened: unknown[]
let expelled: [string, ErrorBody][]
let clock: number
/** Who crashed, what others took of the claimant, and who gives an input instead of its maker. */
let gone: Set<string>
let takers: ReturnType<AuditedRuns['takersOf']>
let holders: Map<string, string | null>
let over: boolean

async function start(policy: Partial<AuditPolicy> = { newRate: 1, settledRate: 1 }): Promise<void> {
  store = await openSqliteStore(join(folder, 'skein.db'))
  const log = {
    info: () => {},
    error: (fields: object, text: string) => expect.fail(`${text} ${JSON.stringify(fields)}`),
  }
  const now = () => clock
  ledger = new Ledger({ store: store.ledger, clock: serverClock(now), epochLength: 1e9, log, now })
  desk = new AuditDesk({
    ...{ store: store.audits, ledger, log, now, policy, metrics: { audited: () => {} } },
    walletOf: async () => null,
    expel: (id, error) => void expelled.push([id, error]),
    runs: {
      configOf: () => config,
      isCurrent: () => true,
      classOf: () => ({ vendor: 'google', architecture: 'swiftshader', products: 'f32' }),
      isHere: (nodeId) => !gone.has(nodeId),
      isUnderWay: () => !over,
      takersOf: () => takers,
      holderOf: ({ entries: [entry] }, _, direction) =>
        holders.has(direction) ? holders.get(direction)! : direction === 'activation' ? entry!.up : entry!.down,
      send: (nodeId, message) => void sent.push({ nodeId, message }),
      creditAudit: () => true,
      claimSettled: (_, receipt) => void happened.push(['settled', receipt]),
      convicted: (_, id) => void happened.push(['convicted', id]),
      redo: (_, id) => void happened.push(['redo', id]),
    },
  })
  await desk.open()
}
async function stop(): Promise<void> {
  await desk.close()
  await store.close()
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'skein-desk-'))
  sent = []
  happened = []
  expelled = []
  gone = new Set()
  takers = []
  holders = new Map()
  over = false
  clock = 1_700_000_000_000
  await start()
  await store.insertDataset(dataset())
  await store.insertRun(run('r1', { config }), checkpoint())
})
afterEach(async () => {
  await stop()
  await rm(folder, { recursive: true })
})

const of = <T extends ServerMessage['type']>(type: T) =>
  sent.flatMap(({ nodeId, message }) => (message.type === type ? [{ nodeId, ...(message as Extract<ServerMessage, { type: T }>) }] : [])) // prettier-ignore
const rows = async () => (await store.ledger.rows(1, 100)).map(({ entry }) => JSON.parse(entry) as LedgerEntry)

function show(claim: WorkClaim, made = shares): void {
  const { shard } = of('show').at(-1)!
  desk.show(claim.receipt, 'activation', claim.nodeId, truth.activation)
  desk.show(claim.receipt, 'gradient', claim.nodeId, truth.gradient)
  desk.show(claim.receipt, 'share', claim.nodeId, made[shard]!)
}

/** What somebody who computes rightly says to the last request. */
function testimony(change: Partial<EvidenceMessage> = {}): EvidenceMessage {
  const { microbatch, shard, seed } = of('recompute').at(-1)!
  const sketches = exhibitsOf(config, claimOf(), { microbatch, shard, seed })
  const text = (kind: string, bytes: Uint8Array) =>
    evidenceText(sketches.find((exhibit) => exhibit.kind === kind)!.sketch(bytes) as Float32Array<ArrayBuffer>)
  return {
    activation: text('activation', truth.activation),
    input: text('activation', truth.input),
    inputGradient: text('gradient', truth.gradient),
    parameterGradient: text('share', shares[shard]!),
    ...change,
  }
}
function answer(evidence = testimony()): void {
  const { nodeId, generation, step, audit } = of('recompute').at(-1)!
  desk.said(nodeId, { type: 'recomputed', generation, step, audit, evidence })
}
describe('an honest claim', () => {
  it('is shown, recomputed and passed; its juror is credited, and nothing waits any more', async () => {
    const claim = claimOf()
    await desk.claimed(claim, replicas)
    const [asked] = of('recompute')
    expect(of('show')).toMatchObject([{ nodeId: 'n1', audit: claim.receipt, microbatch: 4 }])
    expect(asked).toMatchObject({ peers: ['u1', 'd1'], leases: [[4, 0, 1, digestOf(truth.input), '0'.repeat(32)]] })
    expect(JSON.stringify(asked)).not.toContain(digestOf(truth.activation))
    show(claim)
    answer()
    await desk.settled()
    const juror = replicas.find(({ nodeId }) => nodeId === asked!.nodeId)!.device
    expect(await rows()).toEqual([{ kind: 'audit', run: 'r1', step: 5, stage: STAGE, device: juror, credit: '1000' }])
    expect(happened).toEqual([['settled', claim.receipt]])
    expect(await desk.standing(device(1))).toMatchObject({ audited: 1, passed: 1, rate: 1, shutUntil: null })
    const [listed] = await store.audits.audits({ run: 'r1', device: null }, null, 5)
    expect(listed).toMatchObject({ verdict: 'passed', jurors: [{ device: juror, answered: true }] })
    expect(listed!.distances.map(({ tensor, distance }) => [tensor, distance])).toEqual([
      ['activation', 0],
      ['inputGradient', 0],
      ['parameterGradient', 0],
    ])
  })

  it('that is not drawn is answered at once', async () => {
    await stop()
    await start({ newRate: 0, settledRate: 0 })
    const claim = claimOf()
    await desk.claimed(claim, replicas)
    expect([sent, happened]).toEqual([[], [['settled', claim.receipt]]])
  })

  it('takes its exhibits from the claimant alone, of the right size, once, and as they were signed for', async () => {
    const claim = claimOf()
    await desk.claimed(claim, replicas)
    const bytes = encodedBytes('f32', 8, 16)
    const refused = (code: string, ask: () => void) => expect(ask).toThrow(expect.objectContaining({ code }))
    refused('audit.exhibit_stranger', () => desk.expect(claim.receipt, 'activation', 'n2', bytes))
    refused('audit.exhibit_size', () => desk.expect(claim.receipt, 'activation', 'n1', bytes + 4))
    refused('audit.exhibit_size', () => desk.expect(claim.receipt, 'activation', 'n1', null))
    refused('audit.unknown', () => desk.expect(device(7), 'activation', 'n1', bytes))
    const done = Array.from({ length: 16 }, () => desk.taking())
    refused('audit.busy', () => desk.expect(claim.receipt, 'activation', 'n1', bytes))
    for (const over of [...done, done[0]!]) over()
    desk.expect(claim.receipt, 'activation', 'n1', bytes)
    desk.show(claim.receipt, 'activation', 'n1', truth.activation)
    refused('audit.unknown', () => desk.show(claim.receipt, 'activation', 'n1', truth.activation))
    refused('audit.exhibit_digest', () => desk.show(claim.receipt, 'gradient', 'n1', truth.activation))
    await desk.settled()
    expect((await desk.standing(device(1))).watched).toBeGreaterThan(0)
  })

  it('is judged by nobody who says only half of what it would have computed', async () => {
    const claim = claimOf()
    await desk.claimed(claim, replicas)
    show(claim)
    const first = of('recompute')[0]!.nodeId
    answer(testimony({ parameterGradient: undefined }))
    expect(of('recompute').map(({ nodeId }) => nodeId === first)).toEqual([true, false])
    answer()
    await desk.settled()
    const [audit] = await store.audits.audits({ run: 'r1', device: null }, null, 1)
    expect(audit!.verdict).toBe('passed')
    expect(audit!.jurors.map(({ answered }) => answered)).toEqual([false, true])
  })

  it('that was replaced by one for other leases is dropped, and counts against nobody', async () => {
    await desk.claimed(claimOf(), replicas)
    await desk.claimed(claimOf(), replicas)
    await desk.settled()
    expect(await store.audits.totals({ run: 'r1', device: null })).toMatchObject({ audits: 2, open: 1 })
    expect(await desk.standing(device(1))).toMatchObject({ watched: 0, convictions: 0 })
  })
})

describe('a false claim', () => {
  async function convict(): Promise<WorkClaim> {
    const claim = claimOf({ shares: lies })
    await desk.claimed(claim, replicas)
    show(claim, lies)
    answer()
    answer()
    await desk.settled()
    return claim
  }

  it('costs its device the unpaid credit since it was last seen right, its place and its leases, in that order', async () => {
    for (const step of [2, 3, 4]) await store.ledger.append([work({ step, run: 'r1', credit: '7' })], clock)
    expect(work({}).device).toBe(device(1))
    const claim = await convict()
    const conviction = (await rows()).find(({ kind }) => kind === 'conviction')
    expect(conviction).toMatchObject({ device: device(1), run: 'r1', fromStep: 1, toStep: 5, credit: '21' })
    expect((await ledger.account(`device:${device(1)}`)).credit).toMatchObject({ earned: '21', voided: '21' })
    expect(happened).toEqual([
      ['convicted', device(1)],
      ['settled', claim.receipt],
    ])
    expect(expelled).toMatchObject([[device(1), { code: 'audit.convicted' }]])
    expect(desk.barred(device(1))).toMatchObject({ code: 'audit.shut_out' })
    expect(desk.barred(device(2))).toBeNull()
  })

  it('is remembered by the next server, until its time is over', async () => {
    await convict()
    await stop()
    await start()
    expect(desk.barred(device(1))!.message).toContain('parameterGradient beyond tolerance')
    clock += 25 * 3_600_000
    expect(desk.barred(device(1))).toBeNull()
    // Whoever was convicted once is audited as often as a newcomer, for good.
    expect(await desk.standing(device(1))).toMatchObject({ convictions: 1, shutUntil: null })
  })

  it('is forgiven by an incident, before and after, and its work is done again all the same', async () => {
    await store.ledger.append([work({ step: 4, run: 'r1', credit: '7' })], clock)
    await convict()
    clock += 1000
    await desk.declareIncident('a bad build', clock - 5000)
    expect(desk.barred(device(1))).toBeNull()
    expect((await ledger.account(`device:${device(1)}`)).credit).toMatchObject({ voided: '0' })
    expect(await desk.standing(device(1))).toMatchObject({ convictions: 0 })
    await stop()
    await start()
    expect(desk.incident).toMatchObject({ reason: 'a bad build' })
    happened.length = 0
    const claim = await convict()
    expect(happened).toEqual([
      ['redo', device(1)],
      ['settled', claim.receipt],
    ])
    expect(desk.barred(device(1))).toBeNull()
    const [latest] = await store.audits.audits({ run: 'r1', device: null }, null, 1)
    expect(latest).toMatchObject({ verdict: 'convicted', reason: expect.stringContaining('not punished: a bad build') })
    await desk.endIncident()
    expect(desk.incident).toBeNull()
  })
})

describe('somebody that crashes in the middle of an audit', () => {
  afterEach(() => void vi.useRealTimers())
  const pass = async (ms: number) => {
    for (let t = 0; t < ms; t += 500) {
      clock += 500
      await vi.advanceTimersByTimeAsync(500)
    }
  }
  const latest = async () => {
    await desk.settled()
    return (await store.audits.audits({ run: 'r1', device: null }, null, 1))[0]!
  }
  beforeEach(async () => {
    await stop()
    // The desk looks twice a second.
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    await start()
  })

  it('is a juror: another recomputes it within a second', async () => {
    const claim = claimOf({ shares: lies })
    await desk.claimed(claim, replicas)
    show(claim, lies)
    gone.add(of('recompute')[0]!.nodeId)
    await pass(500)
    expect(of('recompute')).toHaveLength(2)
    answer()
    answer()
    expect(await latest()).toMatchObject({ verdict: 'convicted' })
  })

  it('is every free juror: those who were still at work do', async () => {
    const claim = claimOf({ shares: lies })
    await desk.claimed(claim, replicas.slice(0, 1), replicas.slice(1))
    show(claim, lies)
    gone.add('n2')
    await pass(500)
    answer()
    answer()
    expect(await latest()).toMatchObject({ verdict: 'convicted' })
  })

  it('is whoever made an input: the juror asks who has it now', async () => {
    const claim = claimOf()
    await desk.claimed(claim, replicas)
    holders.set('activation', 'n1')
    await pass(500)
    const [first, again] = of('recompute')
    expect(again).toEqual({ ...first, peers: ['n1', 'd1'] })
    await pass(500)
    expect(of('recompute').filter(({ nodeId }) => nodeId === first!.nodeId)).toHaveLength(2)
    gone.add(first!.nodeId)
    await pass(500)
    expect(of('recompute').at(-1)).toMatchObject({ peers: ['n1', 'd1'] })
  })

  it('is the claimant: those who took what it made show it', async () => {
    const claim = claimOf({ shares: lies })
    await desk.claimed(claim, replicas)
    takers = [
      { kind: 'activation', nodeId: 'd1' },
      { kind: 'gradient', nodeId: 'u1' },
      { kind: 'share', nodeId: 'o1' },
      { kind: 'share', nodeId: 'o2' },
    ]
    gone.add('n1')
    await pass(500)
    expect(of('showTaken').map(({ kind, nodeId, maker }) => [kind, nodeId, maker])).toEqual([
      ['activation', 'd1', 'n1'],
      ['gradient', 'u1', 'n1'],
      ['share', 'o1', 'n1'],
    ])
    const { shard } = of('show')[0]!
    desk.show(claim.receipt, 'activation', 'd1', truth.activation)
    desk.show(claim.receipt, 'gradient', 'u1', truth.gradient)
    const refused = (code: string, ask: () => void) => expect(ask).toThrow(expect.objectContaining({ code }))
    refused('audit.exhibit_stranger', () => desk.show(claim.receipt, 'share', 'd1', lies[shard]!))
    // Whoever has something else is not believed, and does the claimant no harm.
    refused('audit.exhibit_digest', () => desk.show(claim.receipt, 'share', 'o1', shares[shard]!))
    await pass(500)
    expect(of('showTaken').at(-1)).toMatchObject({ kind: 'share', nodeId: 'o2' })
    desk.show(claim.receipt, 'share', 'o2', lies[shard]!)
    answer()
    answer()
    expect(await latest()).toMatchObject({ verdict: 'convicted' })
  })

  it.each([
    [
      'says that it cannot show it',
      (claim: WorkClaim) => {
        desk.said('n1', { type: 'declined', generation: 1, step: 5, audit: claim.receipt, reason: '' })
      },
    ],
    [
      'shows something else',
      (claim: WorkClaim) => {
        expect(() => desk.show(claim.receipt, 'share', 'n1', new Uint8Array(4))).toThrow()
      },
    ],
  ])('is nobody, but the claimant %s: the same are asked, and the merge goes on waiting', async (_, withholds) => {
    takers = [{ kind: 'share', nodeId: 'o1' }]
    const claim = claimOf({ shares: lies })
    await desk.claimed(claim, replicas)
    withholds(claim)
    expect(of('showTaken')).toMatchObject([{ kind: 'share', nodeId: 'o1' }])
    expect(happened).toEqual([])
    desk.show(claim.receipt, 'activation', 'n1', truth.activation)
    desk.show(claim.receipt, 'gradient', 'n1', truth.gradient)
    desk.show(claim.receipt, 'share', 'o1', lies[of('show')[0]!.shard]!)
    answer()
    answer()
    expect(await latest()).toMatchObject({ verdict: 'convicted' })
  })

  it('is all that hold an input: that is said, counted, and the claimant is looked at again', async () => {
    const claim = claimOf()
    await desk.claimed(claim, replicas)
    show(claim)
    holders.set('activation', null)
    await pass(500)
    over = true
    await pass(1000)
    expect(await latest()).toMatchObject({ verdict: 'open', reason: expect.stringContaining('An input of it is gone') })
    expect(await store.audits.totals({ run: null, device: device(1) })).toMatchObject({ open: 1 })
    expect(await desk.standing(device(1))).toMatchObject({ watched: 1, rate: 1, convictions: 0 })
    expect(happened).toEqual([['settled', claim.receipt]])
  })
})

it('an audit under way when the server goes is left open, and its claimant is looked at again', async () => {
  await desk.claimed(claimOf(), replicas)
  await stop()
  await start()
  const [listed] = await store.audits.audits({ run: 'r1', device: null }, null, 1)
  expect(listed).toMatchObject({ verdict: 'open', reason: expect.stringContaining('started again') })
  expect((await desk.standing(device(1))).watched).toBeGreaterThan(0)
})

it('every shard that holds something can be drawn', () => {
  expect(shardsToDraw(config, STAGE)).toEqual(shares.flatMap(({ length }, i) => (length > 0 ? [i] : [])))
})
