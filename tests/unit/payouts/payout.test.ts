import { describe, expect, it } from 'vitest'
import type { Hex, Inclusion } from '../../../server/chain/port.ts'
import { initialPayouts, payout } from '../../../server/payouts/payout.ts'
import type { Attempt, Batch, PayoutCommand, PayoutEvent, PayoutState } from '../../../server/payouts/types.ts'
import { verdictOf } from '../../../server/payouts/verdict.ts'

const GENESIS: Hex = `0x${'01'.repeat(32)}`
const HOT = 'aa'.repeat(32)
const transfers = [
  { wallet: 'bb'.repeat(32), planck: 7n },
  { wallet: 'cc'.repeat(32), planck: 9n },
]
const batch = (change: Partial<Batch> = {}): Batch => ({
  id: 1,
  epoch: 3,
  root: 'dd'.repeat(32),
  genesis: GENESIS,
  hot: HOT,
  transfers,
  refund: null,
  attempts: 0,
  attempt: null,
  ...change,
})
const blockHash = (number: number): Hex => `0x${number.toString(16).padStart(64, '0')}`
const attempt = (number = 1, birth = 10): Attempt => ({
  number,
  bytes: `0x${'0' + number}`,
  hash: blockHash(1000 + number),
  nonce: 0,
  birth: { number: birth, hash: blockHash(birth) },
  death: birth + 8,
  specVersion: 1,
})
const inclusion = (number: number, change: Partial<Inclusion> = {}): Inclusion => ({
  block: { number, hash: blockHash(number) },
  index: 2,
  success: true,
  completed: true,
  transfers: transfers.map((transfer) => ({ ...transfer, from: HOT })),
  remarks: [],
  error: null,
  ...change,
})

/** What the core asks for after each of the events. */
function run(events: PayoutEvent[], state = initialPayouts()): { state: PayoutState; asked: (PayoutCommand | null)[] } {
  const asked = events.map((event) => {
    const decision = payout(state, event)
    state = decision.state
    expect(decision.commands.length).toBeLessThanOrEqual(1)
    return decision.commands[0] ?? null
  })
  return { state, asked }
}
const opened = (change: Partial<Extract<PayoutEvent, { kind: 'opened' }>> = {}): PayoutEvent => ({
  kind: 'opened',
  batch: null,
  disputed: null,
  genesis: GENESIS,
  ...change,
})
const finalized = (number: number): PayoutEvent => ({ kind: 'finalized', number })
const nothing = (to: number): PayoutEvent => ({ kind: 'scanned', to, found: null, birthHash: blockHash(10) })

describe('the order of a payout', () => {
  it('is plan, freeze, sign, persist, submit, look, settle', () => {
    const { asked, state } = run([
      opened(),
      finalized(10),
      { kind: 'planned', draft: batch(), idle: null },
      { kind: 'frozen', batch: batch() },
      { kind: 'signed', attempt: attempt() },
      { kind: 'persisted', attempt: attempt() },
      { kind: 'submitted', refused: null },
      finalized(11),
      { kind: 'scanned', to: 11, found: inclusion(11), birthHash: blockHash(10) },
      { kind: 'settled' },
    ])
    expect(asked.map((command) => command?.kind ?? null)).toEqual([
      null,
      'plan',
      'freeze',
      'sign',
      'persist',
      'submit',
      null,
      'scan',
      'settle',
      'plan',
    ])
    expect(state.batch).toBeNull()
  })

  it('asks for nothing while something is under way', () => {
    const { asked } = run([opened(), finalized(10), finalized(11), finalized(12)])
    expect(asked.map((command) => command?.kind ?? null)).toEqual([null, 'plan', null, null])
  })

  it('looks for what an earlier process may have submitted before submitting it again', () => {
    const { asked } = run([opened({ batch: batch({ attempts: 1, attempt: attempt() }) }), finalized(12), nothing(12)])
    expect(asked[1]).toEqual({ kind: 'scan', attempt: attempt(), from: 11, to: 12 })
    expect(asked[2]).toEqual({ kind: 'submit', bytes: attempt().bytes })
  })

  it('submits the same bytes again every few blocks', () => {
    const { asked } = run([
      opened({ batch: batch({ attempts: 1, attempt: attempt() }) }),
      finalized(11),
      nothing(11),
      { kind: 'submitted', refused: 'full' },
      ...[12, 13, 14, 15].flatMap((number) => [finalized(number), nothing(number)]),
    ])
    expect(asked.map((command) => command?.kind ?? null).slice(4)).toEqual([
      ...['scan', null, 'scan', null, 'scan', null],
      ...['scan', 'submit'],
    ])
  })

  it('signs again only when every block that could hold the bytes was looked through', () => {
    const { asked } = run([
      opened({ batch: batch({ attempts: 1, attempt: attempt() }) }),
      finalized(17),
      nothing(17),
      { kind: 'submitted', refused: null },
      finalized(40),
      nothing(18),
      { kind: 'expired' },
    ])
    expect(asked[4]).toMatchObject({ kind: 'scan', from: 18, to: 18 })
    expect(asked[5]).toMatchObject({ kind: 'expire' })
    expect(asked[6]).toMatchObject({ kind: 'sign', number: 2 })
  })

  it('never begins another batch beside one under way', () => {
    const { asked } = run([opened({ batch: batch() }), finalized(10)])
    expect(asked[1]).toMatchObject({ kind: 'sign', number: 1 })
  })

  it('tries again at the next block after a command failed, and not before', () => {
    const error = { code: 'chain.unreachable', message: 'gone', remedy: 'wait' }
    const { asked, state } = run([opened({ batch: batch() }), finalized(10), { kind: 'failed', error }, finalized(10)])
    expect(asked.map((command) => command?.kind ?? null)).toEqual([null, 'sign', null, null])
    expect(state.trouble).toEqual(error)
    expect(payout(state, finalized(11)).commands).toMatchObject([{ kind: 'sign' }])
  })

  it('gives the amounts back when the batch would fail, and rests for longer each time', () => {
    let { state } = run([opened({ batch: batch() }), finalized(10)])
    const rests: number[] = []
    for (let height = 10, n = 0; n < 3; n++) {
      const { asked, state: after } = run([{ kind: 'unpayable', reason: 'no' }, { kind: 'released' }], state)
      expect(asked[0]).toMatchObject({ kind: 'release', reason: 'no' })
      rests.push(after.notBefore - height)
      height = after.notBefore
      state = run(
        [finalized(height), { kind: 'planned', draft: batch(), idle: null }, { kind: 'frozen', batch: batch() }],
        after,
      ).state
    }
    expect(rests).toEqual([10, 20, 40])
  })

  it('stops for good at a batch that the chain’s events contradict', () => {
    const short = inclusion(11, { transfers: [{ ...transfers[0]!, from: HOT }] })
    const { asked, state } = run([
      opened({ batch: batch({ attempts: 1, attempt: attempt() }) }),
      finalized(11),
      { kind: 'scanned', to: 11, found: short, birthHash: blockHash(10) },
      { kind: 'disputed' },
      finalized(12),
    ])
    expect(asked.map((command) => command?.kind ?? null)).toEqual([null, 'scan', 'dispute', null, null])
    expect(state.halted).toMatchObject({ code: 'payout.disputed' })
    expect(run([opened({ disputed: 1 }), finalized(12)]).asked).toEqual([null, null])
  })

  it('stops when the block it was signed at is another one now, rather than believe that nothing was paid', () => {
    const { asked } = run([
      opened({ batch: batch({ attempts: 1, attempt: attempt() }) }),
      finalized(40),
      { kind: 'scanned', to: 18, found: null, birthHash: blockHash(99) },
    ])
    expect(asked[2]).toMatchObject({ kind: 'dispute' })
  })

  it('does nothing on another chain than the one the batch was frozen for', () => {
    const { asked, state } = run([opened({ batch: batch({ genesis: blockHash(5) }) }), finalized(12)])
    expect(asked).toEqual([null, null])
    expect(state.halted).toMatchObject({ code: 'payout.other_chain' })
  })
})

describe('what an inclusion means', () => {
  it.each<[string, Partial<Inclusion>, string]>([
    ['all that was to be sent', {}, 'paid'],
    [
      'a failure that moved nothing',
      { success: false, completed: false, transfers: [], error: 'balances.Frozen' },
      'failed',
    ],
    ['success without completion', { completed: false }, 'disputed'],
    [
      'one planck less',
      {
        transfers: [
          { ...transfers[0]!, from: HOT },
          { ...transfers[1]!, planck: 8n, from: HOT },
        ],
      },
      'disputed',
    ],
    ['one transfer too few', { transfers: [{ ...transfers[0]!, from: HOT }] }, 'disputed'],
    [
      'money of somebody else',
      { transfers: transfers.map((transfer) => ({ ...transfer, from: 'ee'.repeat(32) })) },
      'disputed',
    ],
    ['no events at all', { success: false, completed: false, transfers: [] }, 'disputed'],
  ])('%s', (_what, change, kind) => {
    expect(verdictOf(batch(), inclusion(11, change)).kind).toBe(kind)
  })
})

/** Numbers in [0, 1) that a seed replays (mulberry32). */
function seeded(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}

/**
 * A chain that loses extrinsics, keeps them for long, lets other ones take their nonces, and a server that dies before and after whatever
 * it does. Signing sees the pool, so that several attempts could all be included.
 */
function live(seed: number): { onChain: number; inBooks: number; attempts: number } {
  const random = seeded(seed)
  const chance = (p: number) => random() < p
  let height = 10
  let nonce = 0
  let durable: Batch | null = null
  let done = false
  const pool = new Map<Hex, Attempt>()
  const included = new Map<Hex, number>()
  let [onChain, inBooks, attempts] = [0, 0, 0]
  let state = initialPayouts()

  const carryOut = (command: PayoutCommand): PayoutEvent => {
    switch (command.kind) {
      case 'plan':
        return { kind: 'planned', draft: done ? null : batch(), idle: null }
      case 'freeze':
        durable = batch()
        return { kind: 'frozen', batch: durable }
      case 'sign': {
        const number = command.number
        return { kind: 'signed', attempt: { ...attempt(number, height), nonce: nonce + (chance(0.5) ? pool.size : 0) } }
      }
      case 'persist':
        expect(durable!.attempt).toBeNull()
        attempts = command.attempt.number
        durable = { ...durable!, attempts, attempt: command.attempt }
        return { kind: 'persisted', attempt: command.attempt }
      case 'submit':
        if (chance(0.5)) pool.set(durable!.attempt!.hash, durable!.attempt!)
        return { kind: 'submitted', refused: null }
      case 'scan': {
        const at = included.get(command.attempt.hash)
        const found = at !== undefined && at >= command.from && at <= command.to ? inclusion(at) : null
        return { kind: 'scanned', to: command.to, found, birthHash: command.attempt.birth.hash }
      }
      case 'settle':
        inBooks++
        durable = null
        done = true
        return { kind: 'settled' }
      case 'expire':
        durable = { ...durable!, attempt: null }
        return { kind: 'expired' }
      default:
        throw new Error(`Nothing asks for ${command.kind} here.`)
    }
  }
  const take = (event: PayoutEvent): void => {
    const decision = payout(state, event)
    state = decision.state
    const [command] = decision.commands
    if (!command) return
    const dies = chance(0.15) ? (chance(0.5) ? 'before' : 'after') : null
    const outcome = dies === 'before' ? null : carryOut(command)
    if (dies === null) return take(outcome!)
    state = initialPayouts()
    take(opened({ batch: durable }))
  }

  take(opened())
  for (let tick = 0; tick < 400; tick++) {
    height++
    if (chance(0.1)) nonce++
    for (const [hash, { birth, death, nonce: own }] of pool) {
      if (height >= death) pool.delete(hash)
      else if (own === nonce && height > birth.number && chance(0.3)) {
        pool.delete(hash)
        included.set(hash, height)
        nonce++
        onChain++
      }
    }
    if (chance(0.8)) take(finalized(height))
  }
  return { onChain, inBooks, attempts }
}

it('pays exactly once over 2,000 histories of loss, delay, foreign nonces and deaths', () => {
  let resigned = 0
  for (let seed = 1; seed <= 2000; seed++) {
    const { onChain, inBooks, attempts } = live(seed)
    expect({ seed, onChain, inBooks }).toEqual({ seed, onChain: 1, inBooks: 1 })
    if (attempts > 1) resigned++
  }
  expect(resigned).toBeGreaterThan(100)
})
