/** Owns `skein ledger proof`: what a page does to check an account, in a terminal. */
import { checkProof } from '../../../src/ledger/checkProof.ts'
import { fail, SkeinError } from '../../../src/protocol/errors.ts'
import { ledgerViewSchema } from '../../../src/protocol/ledgerApi.ts'
import { nodeSha256 } from '../../ledger/nodeSha256.ts'
import { askJson } from './download.ts'

/** @returns 0 when the account is under the root, 1 when the server's proof does not hold; @throws SkeinError as the API does */
export async function proveAccount(
  origin: string,
  { account, epoch: asked, root }: { account: string; epoch: number | null; root: string | null },
): Promise<number> {
  const epoch = asked ?? (await lastEpoch(origin))
  const answer = await askJson(origin, `/ledger/epochs/${epoch}/proof/${account}`)
  try {
    const { leaf, seal } = checkProof(answer, { account, epoch }, root, nodeSha256)
    const under = root === null ? 'the server’s root' : 'the anchored root'
    console.log(`${account} is under ${under} of epoch ${epoch}, ${seal.entry.root}:`)
    console.log(`  earned ${leaf.earned} FLOPs, voided ${leaf.voided}`)
    console.log(`  worth ${leaf.worth} planck, paid ${leaf.paid}, balance ${leaf.balance}`)
    return 0
  } catch (caught) {
    if (!(caught instanceof SkeinError)) throw caught
    console.log(`The proof does not hold: ${caught.message} [${caught.code}]\n  ${caught.remedy}`)
    return 1
  }
}

async function lastEpoch(origin: string): Promise<number> {
  const view = ledgerViewSchema.safeParse(await askJson(origin, '/ledger'))
  if (!view.success) return fail('api.shape', 'The answer is not of this version.', 'Update both sides to one version.')
  return (
    view.data.lastSeal?.entry.epoch ??
    fail('ledger.unknown_epoch', 'No epoch is sealed yet.', 'Ask again when the first one is over.')
  )
}
