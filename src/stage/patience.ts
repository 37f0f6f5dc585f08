/** Owns the patience with a server that is away: what needs it is tried on for about as long as a restart takes. */
import { SkeinError } from '../protocol/errors.ts'

const PATIENCE_MS = 60_000
const PAUSE_MS = 1000

/**
 * Tries `work` again while it fails with `transfer.failed` and `goesOn` holds.
 * @throws what `work` throws otherwise, or still throws in the end
 */
export async function patiently<T>(work: () => Promise<T>, goesOn: () => boolean): Promise<T> {
  const since = performance.now()
  for (;;) {
    try {
      return await work()
    } catch (caught) {
      const passing = caught instanceof SkeinError && caught.code === 'transfer.failed'
      if (!passing || !goesOn() || performance.now() - since > PATIENCE_MS) throw caught
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
    }
  }
}
