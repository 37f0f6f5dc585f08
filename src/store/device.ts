/** Owns what this browser profile keeps over reloads: its device id and what it has contributed so far. */
import { openDB, type DBSchema, type IDBPDatabase } from 'idb'

/** Sums over every session of this browser profile. */
export interface Contribution {
  tokens: number
  steps: number
  upBytes: number
  downBytes: number
}

export const NO_CONTRIBUTION: Readonly<Contribution> = { tokens: 0, steps: 0, upBytes: 0, downBytes: 0 }

export function addContribution(a: Contribution, b: Contribution): Contribution {
  return {
    tokens: a.tokens + b.tokens,
    steps: a.steps + b.steps,
    upBytes: a.upBytes + b.upBytes,
    downBytes: a.downBytes + b.downBytes,
  }
}

export interface DeviceStore {
  /** A UUID, the same for every tab and every visit. */
  readonly deviceId: string
  contribution(): Promise<Contribution>
  /** Adds to the stored sums, whichever tab added meanwhile. */
  add(more: Contribution): Promise<void>
}

interface Schema extends DBSchema {
  profile: { key: 'deviceId'; value: string }
  contribution: { key: 'total'; value: Contribution }
}

/** Opens the profile's store; where the browser keeps nothing (private windows), the profile lasts as long as the page. */
export async function openDevice(databaseName = 'skein'): Promise<DeviceStore> {
  let database: IDBPDatabase<Schema>
  try {
    database = await openDB<Schema>(databaseName, 1, {
      upgrade(fresh) {
        fresh.createObjectStore('profile')
        fresh.createObjectStore('contribution')
      },
    })
  } catch {
    return memoryDevice()
  }
  const transaction = database.transaction('profile', 'readwrite')
  let deviceId = await transaction.store.get('deviceId')
  if (deviceId === undefined) {
    deviceId = crypto.randomUUID()
    await transaction.store.put(deviceId, 'deviceId')
  }
  await transaction.done
  return {
    deviceId,
    contribution: async () => (await database.get('contribution', 'total')) ?? { ...NO_CONTRIBUTION },
    async add(more) {
      const adding = database.transaction('contribution', 'readwrite')
      const total = (await adding.store.get('total')) ?? NO_CONTRIBUTION
      await adding.store.put(addContribution(total, more), 'total')
      await adding.done
    },
  }
}

function memoryDevice(): DeviceStore {
  let total: Contribution = { ...NO_CONTRIBUTION }
  return {
    deviceId: crypto.randomUUID(),
    contribution: () => Promise.resolve(total),
    add(more) {
      total = addContribution(total, more)
      return Promise.resolve()
    },
  }
}
