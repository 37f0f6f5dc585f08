/** Owns one check of an inclusion proof: the server is asked, and what it says is verified here, believing nothing. */
import { checkProof, type CheckedProof } from '../../ledger/checkProof.ts'
import { toErrorBody, type ErrorBody } from '../../protocol/errors.ts'
import { proofAnswerSchema, type AccountId } from '../../protocol/ledger.ts'
import type { LedgerCalls } from '../api/ledgerCalls.ts'

export interface Verdict extends CheckedProof {
  /** Hashes between the leaf and the root. */
  pathLength: number
  /** The root was compared with one from the chain. */
  anchored: boolean
}

type Progress =
  | { name: 'none' }
  | { name: 'asking' }
  | { name: 'holds'; verdict: Verdict }
  /** The proof does not hold, or there is none. */
  | { name: 'refused'; error: ErrorBody }

export class ProofCheck {
  progress = $state.raw<Progress>({ name: 'none' })
  readonly #calls: Pick<LedgerCalls, 'proof'>
  #asked = 0

  constructor(calls: Pick<LedgerCalls, 'proof'>) {
    this.#calls = calls
  }

  /** What a screen reader hears of it. */
  get words(): string {
    switch (this.progress.name) {
      case 'none':
      case 'refused':
        // An error is an alert by itself.
        return ''
      case 'asking':
        return 'Fetching the proof…'
      case 'holds':
        return 'The proof holds.'
    }
  }

  /** @param anchored the root that the chain has for the epoch, where there is one */
  async check(account: AccountId, epoch: number, anchored: string | null): Promise<void> {
    const mine = ++this.#asked
    this.progress = { name: 'asking' }
    let progress: Progress
    try {
      const answer = await this.#calls.proof(epoch, account)
      const checked = checkProof(answer, { account, epoch }, anchored)
      const pathLength = proofAnswerSchema.parse(answer).proof.path.length
      progress = { name: 'holds', verdict: { ...checked, pathLength, anchored: anchored !== null } }
    } catch (caught) {
      progress = { name: 'refused', error: toErrorBody(caught) }
    }
    // Whoever asked about another epoch meanwhile is told about that one.
    if (mine === this.#asked) this.progress = progress
  }

  /** The verdict was about another account or epoch than is shown now. */
  forget(): void {
    this.#asked++
    this.progress = { name: 'none' }
  }
}
