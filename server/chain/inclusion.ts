/** Owns how the events of a block tell what became of one extrinsic. */
import type { ApiPromise } from '@polkadot/api'
import type { EventRecord, DispatchError } from '@polkadot/types/interfaces'
import { u8aToHex } from '@polkadot/util'
import type { BlockRef, Hex, Inclusion, Receipt, WalletId } from './port.ts'

const walletOf = (account: { toU8a(): Uint8Array }) => u8aToHex(account.toU8a()).slice(2)

function nameOf(error: DispatchError): string {
  if (!error.isModule) return error.type
  const { section, name } = error.registry.findMetaError(error.asModule)
  return `${section}.${name}`
}

/** Reads the events with the metadata of the block's own runtime. */
export async function readInclusion(api: ApiPromise, block: BlockRef, index: number): Promise<Inclusion> {
  const at = await api.at(block.hash)
  const records = (await at.query.system!.events!()) as unknown as EventRecord[]
  const found = {
    block,
    index,
    success: false,
    completed: false,
    transfers: [] as Inclusion['transfers'][number][],
    remarks: [] as Hex[],
    error: null as string | null,
  }
  for (const { phase, event } of records) {
    if (!phase.isApplyExtrinsic || phase.asApplyExtrinsic.toNumber() !== index) continue
    const { section, method, data } = event
    const [first, second, third] = data as unknown as [never, never, never]
    switch (`${section}.${method}`) {
      case 'system.ExtrinsicSuccess':
        found.success = true
        break
      case 'system.ExtrinsicFailed':
        found.error = nameOf(first)
        break
      case 'utility.BatchCompleted':
        found.completed = true
        break
      case 'balances.Transfer':
        found.transfers.push({ from: walletOf(first), wallet: walletOf(second), planck: BigInt(String(third)) })
        break
      case 'system.Remarked':
        found.remarks.push(u8aToHex((second as { toU8a(): Uint8Array }).toU8a()))
    }
  }
  return found
}

/** Transfers to some wallets, of a block whose events the node still has. */
export async function readTransfersTo(api: ApiPromise, hash: Hex, wallets: ReadonlySet<WalletId>): Promise<Receipt[]> {
  const at = await api.at(hash)
  const records = (await at.query.system!.events!()) as unknown as EventRecord[]
  return records.flatMap(({ event: { section, method, data } }, position) => {
    if (`${section}.${method}` !== 'balances.Transfer') return []
    const [from, to, planck] = data as unknown as [never, never, never]
    const wallet = walletOf(to)
    return wallets.has(wallet) ? [{ from: walletOf(from), wallet, planck: BigInt(String(planck)), position }] : []
  })
}
