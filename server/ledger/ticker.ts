/** Owns the moments at which the server looks whether an epoch is over. */
import type { Ledger } from './ledger.ts'

const TICK_MS = 1000

/** @returns what stops it and waits for a seal under way */
export function startSealing(
  ledger: Ledger,
  log: { error(fields: object, text: string): void },
  tickMs = TICK_MS,
): () => Promise<void> {
  let sealing: Promise<unknown> | null = null
  const ticker = setInterval(() => {
    sealing ??= ledger
      .sealWhenDue()
      // A chain's node out of reach: the epoch is sealed when it answers again.
      .catch((caught: unknown) => log.error({ err: caught }, 'the epoch could not be sealed'))
      .finally(() => (sealing = null))
  }, tickMs)
  return async () => {
    clearInterval(ticker)
    await sealing
  }
}
