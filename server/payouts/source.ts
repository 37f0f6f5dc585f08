/** Owns what payouts pay from: the ledger as its last seal has it. */
import type { Ledger } from '../ledger/ledger.ts'
import type { PayoutSource } from './types.ts'

export function payoutSource(ledger: Pick<Ledger, 'owed'>): PayoutSource {
  return {
    async sealed() {
      const owed = await ledger.owed()
      return owed && { epoch: owed.seal.entry.epoch, root: owed.seal.entry.root }
    },
    owed: async () => (await ledger.owed())?.wallets ?? [],
  }
}
