/** Owns the words for batches of payouts: their state, and whether they are tried again. */
import type { PayoutBatch } from '../../protocol/payouts.ts'
import type { Mood } from './phase.ts'
import { exact } from './quantities.ts'

export const batchStateWords: Record<PayoutBatch['state'], { label: string; mood: Mood }> = {
  frozen: { label: 'On its way', mood: 'busy' },
  paid: { label: 'Paid', mood: 'working' },
  released: { label: 'Not paid', mood: 'still' },
  disputed: { label: 'Disputed', mood: 'trouble' },
}

/** Where the batch is on its way, and whether it was or can be signed again. */
export function batchSentence(batch: PayoutBatch, finalized: number | null): string {
  const { state, attempts, lastAttempt, detail } = batch
  switch (state) {
    case 'paid':
      return attempts > 1 ? `Signed ${exact(attempts)} times, included once.` : 'Final on chain.'
    case 'released':
      return `${detail || 'Nothing was paid.'} The amounts are owed as before, and paid with a later batch.`
    case 'disputed':
      return detail || 'An operator has to look.'
    case 'frozen':
      if (!lastAttempt) return 'Set aside, not signed yet.'
      if (finalized !== null && finalized >= lastAttempt.death)
        return `Signature ${exact(attempts)} was in no block up to ${exact(lastAttempt.death)}; it is signed again.`
      return `Signature ${exact(attempts)} is submitted. It can be included before block ${exact(
        lastAttempt.death,
      )}, and only after that is it signed again.`
  }
}
