/** Owns what a stage claims of a training step: the digests of what each lease took and made and of its shares of the sum, signed before it is `finished`. */
import type { ReceiptEntry } from '../../protocol/receipt.ts'
import type { StageEvent, TensorDigest } from '../machineTypes.ts'
import { readShares } from './merge.ts'
import { type Actions, computedOut, type Lease, report, type StageState, type StepState } from './state.ts'

type Signed<T> = Extract<StageEvent<T>, { type: 'signed' }>

/** Asks once for the signature under all leases of the present version and the shares that came of them. */
export function askSignature<T>(state: StageState<T>, current: StepState<T>, actions: Actions<T>): void {
  if (current.signing === current.version) return
  if (current.shared && !readShares(state, current, actions)) return
  current.signing = current.version
  const entries = [...current.leases.values()].sort((a, b) => a.microbatch - b.microbatch).map(entryOf)
  const shares = current.shared ? current.shards.map(({ share }) => share!.digest) : []
  actions.push({ type: 'sign', step: current.step, version: current.version, entries, shares })
}

function entryOf<T>(lease: Lease<T>): ReceiptEntry<TensorDigest> {
  return {
    microbatch: lease.microbatch,
    // A neighbour may have gone since: what counts is whose tensor went into this node's work.
    up: lease.activatedBy,
    down: lease.returnedBy,
    activationTaken: lease.digests.activationTaken,
    activationMade: lease.digests.activationMade,
    gradientTaken: lease.digests.gradientTaken,
    gradientMade: lease.digests.gradientMade,
  }
}

/** Tells the server of them. @returns whether these are the receipts of the leases as they are now */
export function onSigned<T>(state: StageState<T>, event: Signed<T>, actions: Actions<T>): boolean {
  const { current } = state
  if (!current || event.step !== current.step || current.revoked) return false
  // With more leases since, or more to compute, another signature is asked for.
  if (event.version !== current.version || current.reported === current.version || !computedOut(current)) return false
  const { generation } = state.assignment!
  for (const signed of event.receipts) report(actions, { type: 'receipt', generation, ...signed })
  return true
}
