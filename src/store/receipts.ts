/** Owns what a browser profile keeps of its own work: the receipts it signed, and what the server said they are worth. */
import { openDB, type DBSchema, type IDBPDatabase } from 'idb'
import type { ServerMessage } from '../protocol/control.ts'
import { workIn, type SignedReceipt } from '../protocol/receipt.ts'

export type Credited = Extract<ServerMessage, { type: 'credited' }>

/** One committed step, as the server answered for it. */
export interface KeptReceipt {
  /** Unix milliseconds. */
  readonly at: number
  readonly credited: Credited
  /** What this device had signed; left out where it is of very many microbatches. */
  readonly signed: readonly SignedReceipt[]
}

/** Sums over one day, by this device's clock and in UTC. */
export interface DayCredit {
  /** Such as `2026-11-29`. */
  readonly day: string
  readonly steps: number
  readonly microbatches: number
  readonly refused: number
  /** Model FLOPs. */
  readonly credit: bigint
}

export interface ReceiptStore {
  add(kept: KeptReceipt): Promise<void>
  /** The newest `limit`, newest first. */
  latest(limit: number): Promise<KeptReceipt[]>
  /** Newest first; of all that was ever added. */
  days(): Promise<DayCredit[]>
}

/** The oldest go first; their day's sum stays. */
export const RECEIPTS_KEPT = 10_000
const SIGNED_MICROBATCHES_KEPT = 64

interface Schema extends DBSchema {
  receipts: { key: number; value: KeptReceipt }
  days: { key: string; value: DayCredit }
}

/** Opens the profile's receipts; where the browser keeps nothing (private windows), they last as long as the page. */
export async function openReceipts(databaseName = 'skein-receipts', most = RECEIPTS_KEPT): Promise<ReceiptStore> {
  let database: IDBPDatabase<Schema>
  try {
    database = await openDB<Schema>(databaseName, 1, {
      upgrade(fresh) {
        fresh.createObjectStore('receipts', { autoIncrement: true })
        fresh.createObjectStore('days', { keyPath: 'day' })
      },
    })
  } catch {
    return memoryReceipts(most)
  }
  return {
    async add(kept) {
      const adding = database.transaction(['receipts', 'days'], 'readwrite')
      const [receipts, days] = [adding.objectStore('receipts'), adding.objectStore('days')]
      await receipts.add(bounded(kept))
      const day = dayOf(kept.at)
      await days.put(withReceipt((await days.get(day)) ?? emptyDay(day), kept.credited))
      let over = (await receipts.count()) - most
      for (let cursor = over > 0 ? await receipts.openCursor() : null; cursor && over > 0; over--) {
        await cursor.delete()
        cursor = await cursor.continue()
      }
      await adding.done
    },
    async latest(limit) {
      const found: KeptReceipt[] = []
      let cursor = await database.transaction('receipts').store.openCursor(null, 'prev')
      for (; cursor && found.length < limit; cursor = await cursor.continue()) found.push(cursor.value)
      return found
    },
    days: async () => (await database.getAll('days')).reverse(),
  }
}

export function memoryReceipts(most = RECEIPTS_KEPT): ReceiptStore {
  const receipts: KeptReceipt[] = []
  const days = new Map<string, DayCredit>()
  return {
    add(kept) {
      receipts.push(bounded(kept))
      if (receipts.length > most) receipts.shift()
      const day = dayOf(kept.at)
      days.set(day, withReceipt(days.get(day) ?? emptyDay(day), kept.credited))
      return Promise.resolve()
    },
    latest: (limit) => Promise.resolve(receipts.slice(-limit).reverse()),
    days: () => Promise.resolve([...days.values()].sort((a, b) => (a.day < b.day ? 1 : -1))),
  }
}

/** What a step's answer is worth, and how many of its microbatches were refused. */
export function worth({ work, refused }: Pick<Credited, 'work' | 'refused'>): Omit<DayCredit, 'day' | 'steps'> {
  return {
    microbatches: workIn(work).reduce((sum, { microbatches }) => sum + microbatches, 0),
    refused: refused.reduce((sum, { microbatches }) => sum + microbatches, 0),
    credit: work.reduce((sum, { credit }) => sum + BigInt(credit), 0n),
  }
}

const dayOf = (at: number) => new Date(at).toISOString().slice(0, 10)
const emptyDay = (day: string): DayCredit => ({ day, steps: 0, microbatches: 0, refused: 0, credit: 0n })

function withReceipt(before: DayCredit, credited: Credited): DayCredit {
  const more = worth(credited)
  return {
    day: before.day,
    steps: before.steps + 1,
    microbatches: before.microbatches + more.microbatches,
    refused: before.refused + more.refused,
    credit: before.credit + more.credit,
  }
}

function bounded(kept: KeptReceipt): KeptReceipt {
  const rows = kept.signed.reduce((sum, { receipt }) => sum + receipt.microbatches.length, 0)
  return rows > SIGNED_MICROBATCHES_KEPT ? { ...kept, signed: [] } : kept
}
