/** Owns the live ledger: the accounts as all rows so far make them, what may be appended, and the sealing of epochs. */
import { z } from 'zod'
import { emptyLedger } from '../../src/ledger/accounts.ts'
import { changedLeaves, leafBodies, sealEntry } from '../../src/ledger/leaves.ts'
import { applyRow, effectOf, voidable } from '../../src/ledger/replay.ts'
import { hashHolds, NO_ROW } from '../../src/ledger/rows.ts'
import { accountView } from '../../src/ledger/view.ts'
import { fail, SkeinError, toErrorBody } from '../../src/protocol/errors.ts'
import type { ErrorBody } from '../../src/protocol/errors.ts'
import { ledgerEntrySchema } from '../../src/protocol/ledger.ts'
import type { AccountId, EntryOf, LedgerEntry, LedgerRow, SealRow } from '../../src/protocol/ledger.ts'
import type { AccountView, LedgerView } from '../../src/protocol/ledgerApi.ts'
import type { LedgerStore } from '../db/ledgerStore.ts'
import { nodeSha256 } from './nodeSha256.ts'
import { owedAtSeal } from './owed.ts'
import type { Owed } from './owed.ts'
import { readRow, sealRow } from './readRow.ts'
import { epochOver } from './sealing.ts'
import type { LedgerClock } from './sealing.ts'

/** Rows read at a time; other requests are answered in between. */
const PAGE = 1000
/** How often an entry is checked anew because rows came in between. */
const ATTEMPTS = 20

export interface LedgerOptions {
  store: LedgerStore
  clock: LedgerClock
  /** Of an epoch, in the clock's unit. */
  epochLength: number
  log: { info(fields: object, text: string): void; error(fields: object, text: string): void }
  /** Unix milliseconds. */
  now?: () => number
}

/** What an audit or the operator decides about a device. */
export type Decision = EntryOf<'audit'> | EntryOf<'waiver'> | Omit<EntryOf<'conviction'>, 'credit'>
export type WriteRows = (entries: readonly LedgerEntry[], at: number, after: number) => Promise<void>

export class Ledger {
  readonly #options: LedgerOptions
  readonly #now: () => number
  readonly #state = emptyLedger()
  #fault: (ErrorBody & { seq: number }) | null = null
  /** From when the first epoch in the clock's unit counts. */
  #opened: number | null = null
  /** The clock when an epoch ended in which nothing had happened. */
  #idle = 0
  #turn: Promise<unknown> = Promise.resolve()

  constructor(options: LedgerOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
  }

  /** Reads all rows that came since, whoever wrote them. */
  catchUp(): Promise<void> {
    return this.#inTurn(() => this.#read())
  }

  /**
   * Appends entries that the rules allow. They must be about different devices, wallets or runs, for each is checked against
   * what was there before all of them. Work is appended by `Store.commitStep`.
   * @throws SkeinError `ledger.*` with the rule that one breaks; nothing is appended then
   */
  async append(entries: readonly LedgerEntry[]): Promise<number[]> {
    for (const entry of entries) requireEntry(entry)
    const subjects = entries.map((entry) => `${entry.kind} ${subjectOf(entry)}`)
    if (new Set(subjects).size < subjects.length)
      fail('ledger.batch', 'Two entries of a batch are about the same thing.', 'Append them one after the other.')
    return this.#inTurn(() => this.#append(entries))
  }

  /**
   * Appends a binding or its end unless it holds already: for those who offer one until they know that it was taken.
   * @throws SkeinError `ledger.*`
   */
  async record(entry: EntryOf<'bind' | 'revoke'>): Promise<void> {
    requireEntry(entry)
    await this.#inTurn(async () => {
      await this.#read()
      const now = this.#state.devices.get(entry.device)?.wallet?.id ?? null
      if (now !== (entry.kind === 'bind' ? `wallet:${entry.wallet}` : null)) await this.#append([entry])
    })
  }

  #append(entries: readonly LedgerEntry[]): Promise<number[]> {
    return this.#retrying(async (after) => {
      for (const entry of entries) effectOf(nodeSha256, this.#state, entry, after + 1, this.#now())
      const rows = await this.#options.store.append(entries, this.#now(), after)
      return rows.map(({ seq }) => seq)
    })
  }

  /** @param write is given the last row that is known, and asked again when another came meanwhile */
  async #retrying<T>(write: (after: number) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      await this.#read()
      this.#requireSound()
      try {
        const written = await write(this.#state.head.seq)
        await this.#read()
        return written
      } catch (caught) {
        if (!(caught instanceof SkeinError) || caught.code !== 'ledger.moved' || attempt === ATTEMPTS) throw caught
      }
    }
  }

  /**
   * Makes rows of what was decided about devices, a conviction voiding all that the device earned in its window and that can
   * still be voided, and has `write` append them in a transaction of its own, where more is kept beside them. Each is about
   * another device. @param write rejects with `ledger.moved` when a row came after `after`; it is asked again then
   * @returns the rows. @throws SkeinError `ledger.*`
   */
  settle(decisions: readonly Decision[], write: WriteRows): Promise<readonly LedgerEntry[]> {
    return this.#inTurn(async () => {
      let entries: readonly LedgerEntry[] = []
      await this.#retrying(async (after) => {
        entries = decisions.map((decision) => this.#entryOf(decision))
        for (const entry of entries) effectOf(nodeSha256, this.#state, entry, after + 1, this.#now())
        await write(entries, this.#now(), after)
      })
      return entries
    })
  }

  #entryOf(decision: Decision): LedgerEntry {
    if (decision.kind !== 'conviction') return decision
    const credit = voidable(this.#state, decision).reduce((sum, lot) => sum + lot.credit - lot.voided, 0n)
    return { ...decision, credit: String(credit) }
  }

  /** Seals the epoch when it is over and anything happened in it; null otherwise. */
  sealWhenDue(): Promise<SealRow | null> {
    return this.#inTurn(async () => {
      const { clock: source, epochLength, store, log } = this.#options
      await this.#read()
      if (this.#fault) return null
      const { unit } = source
      const clock = await source.now()
      const { head, seals } = this.#state
      const last = seals.at(-1)
      this.#opened ??= unit === 'ms' && !last && head.seq > 0 ? (await store.rows(1, 1))[0]!.at : clock
      const since = last?.entry.unit === unit ? last.entry.clock : this.#opened
      if (!epochOver(Math.max(since, this.#idle), clock, epochLength)) return null
      if (head.seq === (last?.seq ?? 0)) {
        this.#idle = clock
        return null
      }
      const bodies = leafBodies(this.#state)
      const entry = sealEntry(nodeSha256, this.#state, bodies, { unit, clock })
      try {
        await store.seal(entry, changedLeaves(this.#state, bodies), this.#now(), head.seq)
      } catch (caught) {
        // Rows came in between; the next tick seals them too.
        if (caught instanceof SkeinError && caught.code === 'ledger.moved') return null
        throw caught
      }
      await this.#read()
      log.info({ epoch: entry.epoch, rows: entry.last - entry.first + 1, accounts: entry.accounts }, 'epoch sealed')
      return this.#state.seals.at(-1)!
    })
  }

  /**
   * All credit that was ever earned in the run: a waiver can give back what is voided.
   * @throws SkeinError `ledger.fault`: rows are missing from the sum
   */
  async creditOf(run: string): Promise<bigint> {
    await this.catchUp()
    this.#requireSound()
    return this.#state.earnedIn.get(run) ?? 0n
  }

  /** What each wallet is owed by the last seal; null before the first one. */
  async owed(): Promise<Owed | null> {
    await this.catchUp()
    this.#requireSound()
    return owedAtSeal(this.#state)
  }

  async account(id: AccountId): Promise<AccountView> {
    await this.catchUp()
    return accountView(this.#state, id)
  }

  async view(): Promise<LedgerView> {
    await this.catchUp()
    const { store, clock, epochLength } = this.#options
    const head = await store.head()
    return {
      rows: head.seq,
      head: head.seq === 0 ? NO_ROW : head.hash,
      lastSeal: this.#state.seals.at(-1) ?? null,
      epochLength: { unit: clock.unit, length: epochLength },
      fault: this.#fault,
    }
  }

  /** @throws SkeinError `ledger.unknown_epoch` */
  async sealOf(epoch: number): Promise<SealRow> {
    const [text] = await this.#options.store.seals(epoch + 1, 1)
    const row = text && sealRow(text)
    if (row?.entry.epoch === epoch) return row
    return fail(
      'ledger.unknown_epoch',
      `Epoch ${epoch} is not sealed.`,
      'GET /api/v1/ledger/epochs lists those that are.',
    )
  }

  #requireSound(): void {
    if (this.#fault)
      fail(
        'ledger.fault',
        `Row ${this.#fault.seq} of the ledger is wrong, and nothing is built on it: ${this.#fault.message}`.slice(
          0,
          2000,
        ),
        'Restore the data folder from a backup; npx skein ledger verify tells the same of an export.',
      )
  }

  async #read(): Promise<void> {
    while (!this.#fault) {
      const texts = await this.#options.store.rows(this.#state.head.seq + 1, PAGE)
      for (const text of texts) this.#take(() => readRow(text))
      if (texts.length < PAGE) return
      // The database answers at once: without this nobody else would get a turn before the last row.
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  /** The database may have been written by another hand: nothing is believed that does not hash and follow. */
  #take(read: () => LedgerRow): void {
    if (this.#fault) return
    const { head } = this.#state
    try {
      const row = read()
      if (row.seq !== head.seq + 1 || row.prev !== head.hash || !hashHolds(nodeSha256, row))
        fail(
          'ledger.chain',
          `Row ${head.seq + 1} does not continue the chain.`,
          'Restore the data folder from a backup.',
        )
      applyRow(nodeSha256, this.#state, row)
    } catch (caught) {
      this.#fault = { ...toErrorBody(caught), seq: head.seq + 1 }
      this.#options.log.error({ err: caught, seq: head.seq + 1 }, 'the ledger is damaged; nothing is sealed any more')
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work)
    this.#turn = turn.catch(() => {})
    return turn
  }
}

/** @throws SkeinError `ledger.entry` */
function requireEntry(entry: LedgerEntry): void {
  const { error } = ledgerEntrySchema.safeParse(entry)
  if (error) fail('ledger.entry', `That is no entry: ${z.prettifyError(error)}`.slice(0, 1000), 'Correct these fields.')
}

function subjectOf(entry: LedgerEntry): string {
  if (entry.kind === 'payout') return entry.wallet
  if ('device' in entry) return entry.device ?? 'all'
  return 'run' in entry ? entry.run : ''
}
