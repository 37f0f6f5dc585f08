/** Owns what the server believes of a receipt: that it is of the work that was asked for, whole and once. */
import type { ClientMessage } from '../../src/protocol/control.ts'
import type { ErrorBody } from '../../src/protocol/errors.ts'
import { entryOf, type Digest, type Receipt, type ReceiptEntry } from '../../src/protocol/receipt.ts'
import type { ReceiptBook } from './signedWork.ts'
import type { Round, StageProgress, Work } from './round.ts'
import type { FleetNode, Run } from './types.ts'

export type HeardReceipt = Extract<ClientMessage, { type: 'receipt' }>

/** Why a receipt, or work that has none, earns nothing; `receipt.signature` and `receipt.device` come from who verifies. */
export const REFUSALS = {
  'receipt.missing': ['No receipt came for this work.', 'Reload the page, so that it takes up its key again.'],
  'receipt.stale': ['The receipt is of other work than was asked for.', 'Reload the page.'],
  'receipt.leases': ['The receipt names other microbatches than this device had.', 'Reload the page.'],
  'receipt.edges': ['The receipt lacks what the stage takes or makes, or names what it does not.', 'Reload the page.'],
  'receipt.neighbour': [
    'The receipt names a neighbour that never had this microbatch.',
    'Nothing, if this is rare; if it persists, reload the page.',
  ],
  'receipt.shares': [
    'The receipt does not name this device’s shares of the gradient sum, one a shard.',
    'Reload the page.',
  ],
  'receipt.mismatch': [
    'This device and a neighbour name different bytes for the same tensor.',
    'It is settled by having the microbatch computed again; nothing to do here.',
  ],
} as const satisfies Record<string, readonly [string, string]>
export type Refusal = keyof typeof REFUSALS

export function refusal(code: Refusal): ErrorBody {
  const [message, remedy] = REFUSALS[code]
  return { code, message, remedy }
}

/**
 * Notes what a node signed about its leases. What is refused is told when the step is committed.
 * @param fault what whoever verified the signature says against it
 */
export function onReceipt(
  run: Run,
  node: FleetNode,
  { receipt }: HeardReceipt,
  hash: string,
  fault: ErrorBody | null,
): void {
  const { round } = run
  const progress = round?.stages[node.stage]
  const work = progress?.work.get(node.id)
  if (!round || !progress || !work || round.mode !== 'train' || round.apply) return
  // What is finished is claimed: nobody may claim something else once others have told of it.
  if (work.finished === work.version) return
  const book = bookOf(progress.receipts, node, work)
  const { generation, step, leases, stage } = receipt
  const same = receipt.run === run.id && generation === run.generation && stage === node.stage
  if (!fault && !(same && step === round.step && leases === work.version)) {
    // Leases may have come while it was on its way: another follows. If none does, it was another's all along.
    book.stale = true
    return
  }
  const entries = receipt.microbatches.map((row) => entryOf(receipt, row))
  const error =
    fault ?? shareFault(run, progress, node, book, receipt) ?? faultOf(run, round, node.stage, work, book, entries)
  if (error) {
    book.refused = error
    return
  }
  const places = entries.map(({ microbatch }) => microbatch - round.first)
  entries.forEach((entry, i) => book.entries.set(places[i]!, entry))
  book.receipts.push({ hash, places })
  book.shares = receipt.shares
}

/** The node's receipts for its leases as they are now: those of an earlier version are void. */
function bookOf(books: Map<string, ReceiptBook>, { id, deviceId }: FleetNode, { version }: Work): ReceiptBook {
  const known = books.get(id)
  if (known?.version === version) return known
  const book: ReceiptBook = {
    device: deviceId,
    version,
    refused: null,
    stale: false,
    receipts: [],
    entries: new Map(),
    shares: [],
  }
  books.set(id, book)
  return book
}

/** Several receipts of the same leases are of the same shares; who was alone when the step began need name none. */
function shareFault(
  run: Run,
  { solo }: StageProgress,
  node: FleetNode,
  book: ReceiptBook,
  { shares }: Receipt,
): ErrorBody | null {
  const due = run.owners[node.stage]!.length
  const whole = shares.length === due || (shares.length === 0 && solo === node.id)
  const same = book.receipts.length === 0 || shares.join() === book.shares.join()
  return whole && same ? null : refusal('receipt.shares')
}

function faultOf(
  { config }: Run,
  { first }: Round,
  stage: number,
  { microbatches }: Work,
  book: ReceiptBook,
  entries: readonly ReceiptEntry<Digest>[],
): ErrorBody | null {
  const named = new Set<number>()
  for (const entry of entries) {
    const place = entry.microbatch - first
    if (!microbatches.has(place) || named.has(place) || book.entries.has(place)) return refusal('receipt.leases')
    named.add(place)
    const { up, down, activationTaken, activationMade, gradientTaken, gradientMade } = entry
    const [before, after] = [stage > 0, stage < config.stages - 1]
    const whole =
      [up, activationTaken, gradientMade].every((end) => (end !== null) === before) &&
      [down, activationMade, gradientTaken].every((end) => (end !== null) === after)
    if (!whole) return refusal('receipt.edges')
  }
  return null
}
