/** Owns ledgers for tests and measurements: rows that follow the rules, of every kind, from a seed. */
import { emptyLedger } from '../../../src/ledger/accounts.ts'
import { leafBodies, sealEntry } from '../../../src/ledger/leaves.ts'
import { applyRow, voidable } from '../../../src/ledger/replay.ts'
import { chain, rowLine } from '../../../src/ledger/rows.ts'
import type { RowText } from '../../../src/ledger/rows.ts'
import { nodeSha256 } from '../../../server/ledger/nodeSha256.ts'
import type { EntryOf, LedgerEntry, LedgerRow } from '../../../src/protocol/ledger.ts'

export const hex = (n: number): string => n.toString(16).padStart(64, '0')
export const START = 1_790_000_000_000
export const PFLOP = 10n ** 15n

export const work = (change: Partial<EntryOf<'work'>> = {}): EntryOf<'work'> => ({
  kind: 'work',
  run: 'r1',
  generation: 0,
  step: 1,
  stage: 0,
  device: hex(1),
  microbatches: 4,
  credit: String(PFLOP),
  receipt: null,
  ...change,
})

/** Writes a ledger row by row; the rules are applied as the rows are written. */
export class SampleLedger {
  readonly state = emptyLedger()
  at = START

  /** @throws SkeinError what the rules say */
  add(entry: LedgerEntry): RowText {
    const text = chain(nodeSha256, this.state.head, entry, this.at)
    applyRow(nodeSha256, this.state, { ...text, entry } as LedgerRow)
    return text
  }

  seal(): RowText {
    const clock = this.at
    return this.add(sealEntry(nodeSha256, this.state, leafBodies(this.state), { unit: 'ms', clock }))
  }
}

/** Mulberry32: numbers in [0, 1). */
export function seeded(seed: number): () => number {
  let a = seed
  return () => {
    a = (a + 0x6d2b79f5) | 0
    let t = Math.imul(a ^ (a >>> 15), 1 | a)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}

export interface SampleSize {
  rows: number
  devices: number
  /** Rows between two seals. */
  epoch: number
}

/** The lines of rows of a busy network: several runs, bindings, convictions, seals and payouts. */
export function* sampleLines(
  seed: number,
  { rows, devices, epoch }: SampleSize,
): Generator<{ line: string; row: RowText }> {
  const random = seeded(seed)
  const pick = (n: number) => Math.floor(random() * n)
  const ledger = new SampleLedger()
  const give = (row: RowText) => ({ row, line: rowLine(row) })
  const runs = ['r0a1b2c3d4e5f', 'r5f4e3d2c1b0a', 'r00000000abcd']
  const steps = runs.map(() => ({ generation: 0, step: 0 }))
  const full = () => ledger.state.head.seq >= rows
  for (const run of runs.slice(0, 2)) yield give(ledger.add({ kind: 'price', run, planckPerPflop: '123456789' }))
  let sealedAt = 0
  for (let round = 0; !full(); round++) {
    ledger.at += 900
    const run = round % runs.length
    const { generation, step } = steps[run]!
    if (random() < 0.01) Object.assign(steps[run]!, { generation: generation + 1, step: Math.max(0, step - 3) })
    else steps[run]!.step += 1
    const now = steps[run]!
    for (let i = 0; i < 8 && !full(); i++) {
      const device = hex(1 + ((round * 8 + i) % devices))
      const share = {
        run: runs[run]!,
        step: now.step,
        stage: i % 4,
        device,
        credit: String(4n * 10n ** 12n + BigInt(pick(9999))),
      }
      if (random() < 0.97)
        yield give(
          ledger.add({
            kind: 'work',
            ...share,
            generation: now.generation,
            microbatches: 1 + pick(8),
            receipt: hex(pick(1e9)),
          }),
        )
      else yield give(ledger.add({ kind: random() < 0.5 ? 'audit' : 'standby', ...share }))
    }
    if (full()) return
    const device = hex(1 + pick(devices))
    const chance = random()
    if (chance < 0.02)
      yield give(ledger.add({ kind: 'bind', device, wallet: hex(1_000_000 + pick(devices)), proof: hex(pick(1e9)) }))
    else if (chance < 0.024) {
      const bound = [...ledger.state.devices.values()].find(({ wallet }) => wallet)
      if (bound) yield give(ledger.add({ kind: 'revoke', device: bound.id }))
    } else if (chance < 0.04) {
      const window = { device, run: runs[run]!, fromStep: Math.max(0, now.step - 9), toStep: now.step }
      const credit = voidable(ledger.state, window).reduce((sum, lot) => sum + lot.credit - lot.voided, 0n)
      yield give(
        ledger.add({ kind: 'conviction', ...window, credit: String(credit), reason: 'Its “activations” were 零.' }),
      )
    } else if (chance < 0.05)
      yield give(ledger.add({ kind: 'waiver', device: random() < 0.5 ? null : device, reason: 'Outage.' }))
    if (full() || ledger.state.head.seq - sealedAt < epoch) continue
    yield give(ledger.seal())
    sealedAt = ledger.state.head.seq
    const last = ledger.state.seals.at(-1)!.entry.epoch
    for (const account of ledger.state.accounts.values()) {
      const owed = account.marks.at(-1) ? account.marks.at(-1)!.worth - account.paid : 0n
      if (full() || !account.id.startsWith('wallet:') || owed <= 500n || random() < 0.3) continue
      const wallet = account.id.slice('wallet:'.length)
      const proofs = { block: hex(pick(1e9)), extrinsic: hex(pick(1e9)) }
      yield give(ledger.add({ kind: 'payout', epoch: last, wallet, planck: String(owed), ...proofs }))
    }
  }
}
