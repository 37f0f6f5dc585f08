/** Proves the audit desk over a real store and ledger: who shows what, what a verdict costs, and what outlives the server. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { AuditPolicy } from '../../../server/audits/policy.ts'
import { AuditDesk } from '../../../server/audits/desk/desk.ts'
import { digestOf, exhibitsOf, shardsToDraw } from '../../../server/audits/desk/exhibits.ts'
import { openSqliteStore } from '../../../server/db/sqlite.ts'
import { Ledger } from '../../../server/ledger/ledger.ts'
import { serverClock } from '../../../server/ledger/sealing.ts'
import type { WorkClaim } from '../../../server/orchestrator/types.ts'
import { evidenceText } from '../../../src/audit/evidence.ts'
import { encodedBytes } from '../../../src/codec/size.ts'
import { runLayouts } from '../../../src/model/layout.ts'
import { stageShards } from '../../../src/model/optimizerShards.ts'
import type { EvidenceMessage } from '../../../src/protocol/audit.ts'
import type { ServerMessage } from '../../../src/protocol/control.ts'
import type { ErrorBody } from '../../../src/protocol/errors.ts'
import type { LedgerEntry } from '../../../src/protocol/ledger.ts'
import { shardCount } from '../../../src/protocol/routing.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'
import { noise } from '../../kernels/gpu.ts'
import { work } from '../ledger/sampleLedger.ts'
import { checkpoint, dataset, run } from '../server/store.compliance.ts'

const model = { dModel: 16, layers: 3, heads: 2, kvHeads: 2, ffn: 16, blockSize: 8, vocabSize: 32 }
const config = runConfigSchema.parse({ model, stages: 3, replicas: 3, batch: 4, microbatch: 1, codec: 'f32' })
const STAGE = 1
const device = (n: number) => n.toString(16).padStart(64, '0')
const bytesOf = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
const boundary = (seed: number) => bytesOf(noise(config.microbatch * model.blockSize * model.dModel, seed))
const shares = stageShards(runLayouts(config)[STAGE]!, shardCount(config), config.optimizer).map(({ length }, i) =>
  bytesOf(noise(length, 100 + i)),
)
/** What the stage really makes of microbatch 4. */
const truth = { activation: boundary(1), gradient: boundary(2), input: boundary(3) }

let nth = 0
const claimOf = (made: { shares?: Uint8Array[] } = {}, more: Partial<WorkClaim> = {}): WorkClaim => ({
  ...{ runId: 'r1', generation: 1, step: 5, stage: STAGE, nodeId: 'n1', device: device(1) },
  receipt: (++nth).toString(16).padStart(64, 'e'),
  entries: [
    {
      ...{ microbatch: 4, up: 'u1', down: 'd1', activationTaken: digestOf(truth.input), gradientTaken: '0'.repeat(32) },
      ...{ activationMade: digestOf(truth.activation), gradientMade: digestOf(truth.gradient) },
    },
  ],
  shares: (made.shares ?? shares).map(digestOf),
  ...{ losses: [], credit: 1000n, neighbours: [device(90)], codec: 'f32' },
  ...more,
})
const replicas = [2, 3, 4].map((n) => ({ nodeId: `n${n}`, device: device(n) }))

let folder: string
let store: Awaited<ReturnType<typeof openSqliteStore>>
let ledger: Ledger
let desk: AuditDesk
let sent: { nodeId: string; message: ServerMessage }[]
let happened: unknown[]
let expelled: [string, ErrorBody][]
let clock: number

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
/** A claim of another gradient than the stage has. */
const lies = shares.map((share) => bytesOf(new Float32Array(share.slice().buffer).map((value) => -value)))

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

it('an audit under way when the server goes is left open, and its claimant is looked at again', async () => {
  await desk.claimed(claimOf(), replicas)
  await stop()
  await start()
  const [listed] = await store.audits.audits({ run: 'r1', device: null }, null, 1)
  expect(listed).toMatchObject({ verdict: 'open', reason: expect.stringContaining('started again') })
  expect((await desk.standing(device(1))).watched).toBeGreaterThan(0)
})

it('a device on whose routes the losses are high is looked at, also by the next server', async () => {
  const harmful = device(7)
  for (let step = 0; step < 40; step++) {
    const devices = step % 2 === 0 ? [harmful, device(8)] : [device(9), harmful]
    desk.scored('r1', [
      { devices, loss: 3 },
      ...[2, 2.1, 2.2].map((loss, i) => ({ devices: [device(20 + i), device(30 + i)], loss })),
    ])
  }
  expect((await desk.standing(harmful)).watched).toBeGreaterThan(0)
  expect((await desk.standing(device(20))).watched).toBe(0)
  await stop()
  await start()
  expect((await desk.standing(harmful)).watched).toBeGreaterThan(0)
  expect(expelled).toEqual([])
})

it('every shard that holds something can be drawn', () => {
  expect(shardsToDraw(config, STAGE)).toEqual(shares.flatMap(({ length }, i) => (length > 0 ? [i] : [])))
})
