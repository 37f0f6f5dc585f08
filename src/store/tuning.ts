/** Owns where a browser profile keeps which kernels were the fastest on its adapter. */
import { openDB, type DBSchema } from 'idb'
import type { TuningStore } from '../gpu/autotune.ts'

interface Schema extends DBSchema {
  choices: { key: string; value: string }
}

/** Keeps texts in IndexedDB, also from a Worker. Rejects where the browser keeps nothing; whoever asked measures anew. */
export function browserTuning(databaseName = 'skein-tuning'): TuningStore {
  const open = () =>
    openDB<Schema>(databaseName, 1, {
      upgrade(fresh) {
        fresh.createObjectStore('choices')
      },
    })
  let database: ReturnType<typeof open> | undefined
  return {
    load: async (key) => (await (await (database ??= open())).get('choices', key)) ?? null,
    save: async (key, text) => {
      await (await (database ??= open())).put('choices', text, key)
    },
  }
}
