/** Owns what this node signed of late, until the server answers for it. */
import type { SignedReceipt } from '../protocol/receipt.ts'

/** Steps that may be under way, or voided, before one is answered. */
const STEPS_KEPT = 4

export class SignedReceipts {
  /** By `run step`, the newest last: receipts of the last version of the leases. */
  readonly #steps = new Map<string, SignedReceipt[]>()

  add({ receipt, signature }: SignedReceipt): void {
    const key = keyOf(receipt)
    const known = this.#steps.get(key) ?? []
    const [first] = known
    const current = first && first.receipt.generation === receipt.generation && first.receipt.leases === receipt.leases
    this.#steps.delete(key)
    this.#steps.set(key, [...(current ? known : []), { receipt, signature }])
    for (const oldest of this.#steps.keys()) {
      if (this.#steps.size <= STEPS_KEPT) break
      this.#steps.delete(oldest)
    }
  }

  take(run: string, step: number): SignedReceipt[] {
    const key = keyOf({ run, step })
    const signed = this.#steps.get(key) ?? []
    this.#steps.delete(key)
    return signed
  }
}

const keyOf = ({ run, step }: { run: string; step: number }) => `${run} ${step}`
