/** Owns how bindings come into the ledger: one that it has already, because a crash came between, is passed over. */
import type { IdentityEntry } from '../db/identityStore.ts'
import type { Ledger } from './ledger.ts'

export async function recordIdentity(ledger: Ledger, entry: IdentityEntry): Promise<void> {
  const { wallet } = await ledger.account(`device:${entry.device}`)
  const known = entry.kind === 'bind' ? wallet === entry.wallet : wallet === null
  if (!known) await ledger.append([entry])
}
