/** Owns what a seal states: a leaf for each account, the root over them, and the seal's own entry. */
import type { ClockUnit, Leaf, SealEntry } from '../protocol/ledger.ts'
import type { Account, LedgerState } from './accounts.ts'
import { worthOf } from './accounts.ts'
import { canonicalJson } from './canonicalJson.ts'
import { leafHash, merkleRoot, merkleTree } from './merkle.ts'
import type { Sha256 } from './sha256.ts'

/** What of a leaf stays the same from epoch to epoch while nothing happens to the account. */
export type LeafBody = Omit<Leaf, 'epoch'>

function bodyOf(account: Account): LeafBody {
  const worth = worthOf(account)
  return {
    account: account.id,
    balance: String(worth - account.paid),
    earned: String(account.earned),
    paid: String(account.paid),
    voided: String(account.voided),
    worth: String(worth),
  }
}

/** By account, those that hold credit or were paid. A bound device has none: what it earned is its wallet's. */
export function leafBodies(state: LedgerState): LeafBody[] {
  const bodies: LeafBody[] = []
  for (const account of state.accounts.values())
    if (account.earned > 0n || account.paid > 0n) bodies.push(bodyOf(account))
  return bodies.sort((a, b) => (a.account < b.account ? -1 : 1))
}

export function treeOf(sha256: Sha256, epoch: number, bodies: readonly LeafBody[]) {
  return merkleTree(
    sha256,
    bodies.map((body) => leafHash(sha256, { ...body, epoch })),
  )
}

/** The seal that closes everything up to the ledger's head. */
export function sealEntry(
  sha256: Sha256,
  state: LedgerState,
  bodies: readonly LeafBody[],
  closed: { unit: ClockUnit; clock: number },
): SealEntry {
  const before = state.seals.at(-1)?.entry
  const epoch = (before?.epoch ?? 0) + 1
  return {
    kind: 'seal',
    epoch,
    first: (before?.last ?? 0) + 1,
    last: state.head.seq,
    root: merkleRoot(sha256, treeOf(sha256, epoch, bodies)),
    accounts: bodies.length,
    credit: String(state.credit),
    ...closed,
  }
}

/** Leaves of a new seal that differ from those of the one before, as text; null for accounts that have none any more. */
export function changedLeaves(
  state: LedgerState,
  bodies: readonly LeafBody[],
): { account: string; leaf: string | null }[] {
  const changed: { account: string; leaf: string | null }[] = []
  const present = new Set<string>()
  for (const body of bodies) {
    present.add(body.account)
    const leaf = canonicalJson(body)
    if (state.accounts.get(body.account)!.leaf !== leaf) changed.push({ account: body.account, leaf })
  }
  for (const { id, leaf } of state.accounts.values())
    if (leaf !== null && !present.has(id)) changed.push({ account: id, leaf: null })
  return changed
}
