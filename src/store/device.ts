/** Owns what this browser profile keeps over reloads: its device's key and what it has contributed so far. */
import { openDB, type DBSchema, type IDBPDatabase } from 'idb'
import { createIdentity, type DeviceIdentity } from './deviceKey.ts'

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
  /** The same for every tab and every visit. */
  readonly identity: DeviceIdentity
  contribution(): Promise<Contribution>
  /** Adds to the stored sums, whichever tab added meanwhile. */
  add(more: Contribution): Promise<void>
}

interface Schema extends DBSchema {
  /** Until there were keys, a random name lay at `deviceId`. */
  profile: { key: 'identity' | 'deviceId'; value: DeviceIdentity | string }
  contribution: { key: 'total'; value: Contribution }
}

/**
 * Opens the profile's store; where the browser keeps nothing (private windows), the profile lasts as long as the page.
 * @throws SkeinError `identity.unsupported`
 */
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
    return memoryDevice(await createIdentity())
  }
  const identity = (await storedIdentity(database)) ?? (await keepIdentity(database, await createIdentity()))
  return {
    identity,
    contribution: async () => (await database.get('contribution', 'total')) ?? { ...NO_CONTRIBUTION },
    async add(more) {
      const adding = database.transaction('contribution', 'readwrite')
      const total = (await adding.store.get('total')) ?? NO_CONTRIBUTION
      await adding.store.put(addContribution(total, more), 'total')
      await adding.done
    },
  }
}

async function storedIdentity(database: IDBPDatabase<Schema>): Promise<DeviceIdentity | null> {
  const stored = await database.get('profile', 'identity')
  return typeof stored === 'object' && stored.privateKey instanceof CryptoKey ? stored : null
}

/** Another tab may have been quicker: the profile has one key, the first that was kept. */
async function keepIdentity(database: IDBPDatabase<Schema>, fresh: DeviceIdentity): Promise<DeviceIdentity> {
  // On the disk before anything is earned with it: a browser that is killed must come back as the same device.
  const keeping = database.transaction('profile', 'readwrite', { durability: 'strict' })
  const stored = await keeping.store.get('identity')
  if (typeof stored === 'object' && stored.privateKey instanceof CryptoKey) {
    await keeping.done
    return stored
  }
  try {
    await keeping.store.put(fresh, 'identity')
    await keeping.store.delete('deviceId')
    await keeping.done
  } catch {
    // Some private windows keep everything but keys; this one lasts as long as the page.
    keeping.done.catch(() => {})
  }
  return fresh
}

function memoryDevice(identity: DeviceIdentity): DeviceStore {
  let total: Contribution = { ...NO_CONTRIBUTION }
  return {
    identity,
    contribution: () => Promise.resolve(total),
    add(more) {
      total = addContribution(total, more)
      return Promise.resolve()
    },
  }
}
