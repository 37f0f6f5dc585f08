/** Owns the check that anybody can make of their own account, in the page and without trusting the server that answers. */
import { fail } from '../protocol/errors.ts'
import { proofAnswerSchema } from '../protocol/ledger.ts'
import type { AccountId, Leaf, SealRow } from '../protocol/ledger.ts'
import { leafHash, rootFromPath } from './merkle.ts'
import { hashHolds } from './rows.ts'
import { portableSha256 } from './sha256.ts'
import type { Sha256 } from './sha256.ts'

export interface CheckedProof {
  /** What the epoch's root promises the account. */
  leaf: Leaf
  seal: SealRow
}

const LIE = 'Do not rely on these figures: the server, or somebody on the way, has changed them. Ask the operator.'

/**
 * @param answer what the server said to `GET /ledger/epochs/:epoch/proof/:account`, unchecked
 * @param asked the account and the epoch that were asked about
 * @param anchored the root that the chain has for the epoch, where there is one: without it the proof says only that this
 * server's own seal includes the account
 * @throws SkeinError `proof.shape`, `proof.account`, `proof.epoch`, `proof.balance`, `proof.seal_hash`, `proof.root`, `proof.anchor`
 */
export function checkProof(
  answer: unknown,
  asked: { account: AccountId; epoch: number },
  anchored: string | null = null,
  sha256: Sha256 = portableSha256,
): CheckedProof {
  const parsed = proofAnswerSchema.safeParse(answer)
  if (!parsed.success)
    return fail('proof.shape', 'The answer is no inclusion proof.', 'Ask again; both sides must be of one version.')
  const { proof, seal } = parsed.data
  const { leaf, index, path } = proof
  if (leaf.account !== asked.account)
    fail('proof.account', `The proof is about ${leaf.account}, not about ${asked.account}.`, LIE)
  if (leaf.epoch !== asked.epoch || seal.entry.epoch !== asked.epoch)
    fail('proof.epoch', `The proof is not about epoch ${asked.epoch}.`, LIE)
  if (BigInt(leaf.worth) - BigInt(leaf.paid) !== BigInt(leaf.balance))
    fail('proof.balance', 'The balance is not what the credit is worth less what was paid.', LIE)
  if (!hashHolds(sha256, seal)) fail('proof.seal_hash', 'The hash of the seal is not that of what the seal says.', LIE)
  const root = rootFromPath(sha256, leafHash(sha256, leaf), index, seal.entry.accounts, path)
  if (root !== seal.entry.root)
    fail('proof.root', `The account is not under the root of epoch ${asked.epoch} with these figures.`, LIE)
  if (anchored !== null && anchored !== root)
    fail('proof.anchor', `The chain has another root for epoch ${asked.epoch} than the server.`, LIE)
  return { leaf, seal }
}
