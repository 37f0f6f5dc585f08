/** Owns what outlives a page of the choice among matmul kernels: the port it is kept through, its key and its format. */
import { z } from 'zod'
import { crc32 } from '../protocol/frame.ts'
import type { GpuContext } from './device.ts'
import { MATMUL_TEXTS } from './kernels/matmul.ts'

/** Where choices are kept between two visits. A failing store costs only the measuring. */
export interface TuningStore {
  load(key: string): Promise<string | null>
  save(key: string, text: string): Promise<void>
}

const storedSchema = z.object({
  winners: z.record(
    z.string().max(80),
    z.object({
      /** The variant's name. */
      variant: z.string().max(80),
      /** Multiply-adds a second when it won. */
      rate: z.number().positive(),
    }),
  ),
})

/** By shape class. Every winner in it was verified on this adapter, with these texts, when it was stored. */
export type StoredWinners = z.infer<typeof storedSchema>['winners']

/**
 * A choice holds for one adapter, one runtime (a new browser brings a new shader compiler), these texts and the variants
 * that were offered.
 */
export function tuningKey({ adapter, subgroupSize }: GpuContext, runtime: string, offered: readonly string[]): string {
  const texts = crc32(new TextEncoder().encode([...MATMUL_TEXTS, ...offered].join('\n')))
  const { vendor, architecture, description } = adapter
  return ['matmul', vendor, architecture, description, subgroupSize ?? 0, runtime, texts.toString(16)].join('/')
}

/** What is stored under `key`; nothing if the text is broken or the store fails. */
export async function loadWinners(store: TuningStore, key: string): Promise<StoredWinners> {
  try {
    const text = await store.load(key)
    return text === null ? {} : storedSchema.parse(JSON.parse(text)).winners
  } catch {
    return {}
  }
}

export async function saveWinners(store: TuningStore, key: string, winners: StoredWinners): Promise<void> {
  await store.save(key, JSON.stringify({ winners })).catch(() => undefined) // Measured again next time.
}
