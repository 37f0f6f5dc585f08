/**
 * Owns whether a wallet said a challenge by an extrinsic: `system.remark` of this chain with the text and nothing else, for wallets
 * that sign no texts. It is verified by the chain's metadata alone, and never submitted.
 */
import type { ErrorBody } from '../../src/protocol/errors.ts'
import type { RemarkPayload } from '../../src/protocol/wallet.ts'
import type { Chain } from '../chain/port.ts'
import { holds, NOT_SIGNED, type WalletSignature } from './walletSignature.ts'

export type Remarks = Pick<Chain, 'info' | 'remarkOf' | 'readPayload' | 'runtimeVersion'>

export const NO_CHAIN: ErrorBody = {
  code: 'identity.no_chain',
  message: 'This server is connected to no chain, so that it cannot read what a wallet signs as an extrinsic.',
  remedy: 'Use an account that signs texts; the operator connects a chain with SKEIN_CHAIN_URL.',
}

const refusal = (code: string, message: string): ErrorBody => ({
  code: `identity.${code}`,
  message,
  remedy: 'Ask for the challenge’s remark again, and have the wallet sign it unchanged.',
})

/** Null when the wallet's key signed the text as a remark of this chain. @throws SkeinError `chain.unreachable` */
export async function checkRemark(
  chain: Remarks,
  walletId: string,
  { remark, ...given }: WalletSignature & { remark: RemarkPayload },
  text: string,
): Promise<ErrorBody | null> {
  if (remark.genesisHash !== chain.info.genesis)
    return refusal('remark_genesis', `The remark is of another chain than ${chain.info.name}.`)
  const { specVersion, transactionVersion } = await chain.runtimeVersion()
  if (Number(remark.specVersion) !== specVersion || Number(remark.transactionVersion) !== transactionVersion)
    return refusal('remark_version', `The remark is of another version of the chain’s runtime than ${specVersion}.`)
  const read = chain.readPayload(remark)
  if (!read) return refusal('remark_payload', 'What was signed is no extrinsic of this chain’s runtime.')
  if (read.signer !== walletId) return refusal('remark_signer', 'The remark is of another account than the challenge.')
  if (read.remark === null)
    return refusal('remark_call', `The wallet signed ${read.call}, where nothing but system.remark was asked for.`)
  if (!Buffer.from(text).equals(read.remark))
    return refusal('remark_text', 'The remark says something else than the challenge.')
  return holds(walletId, given, read.signed) ? null : NOT_SIGNED
}
