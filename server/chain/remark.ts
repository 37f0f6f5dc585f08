/** Owns the extrinsic by which a wallet says something without sending it: how it is written, and how one that was signed is read. */
import type { ApiPromise } from '@polkadot/api'
import { hexToU8a, u8aEq, u8aToHex } from '@polkadot/util'
import { blake2AsU8a, decodeAddress } from '@polkadot/util-crypto'
import type { RemarkPayload } from '../../src/protocol/wallet.ts'
import type { BlockRef, ReadPayload } from './port.ts'

/** No account comes so far: whoever gets hold of the signature cannot have a fee paid with it. */
const NONCE_NEVER = '0xffffffff'
/** Blocks in which pools might keep it. */
const ERA_BLOCKS = 64
/** Longer payloads are signed by their hash. */
const HASHED_FROM = 256

export function writeRemark(api: ApiPromise, address: string, text: string, birth: BlockRef): RemarkPayload {
  const era = api.registry.createType('ExtrinsicEra', { current: birth.number, period: ERA_BLOCKS })
  const { specVersion, transactionVersion } = api.runtimeVersion
  return {
    address,
    blockHash: birth.hash,
    blockNumber: api.registry.createType('BlockNumber', birth.number).toHex(),
    era: era.toHex(),
    genesisHash: api.genesisHash.toHex(),
    method: api.tx.system!.remark!(u8aToHex(new TextEncoder().encode(text))).method.toHex(),
    nonce: NONCE_NEVER,
    signedExtensions: api.registry.signedExtensions,
    specVersion: specVersion.toHex(),
    tip: '0x00',
    transactionVersion: transactionVersion.toHex(),
    version: api.extrinsicVersion,
  }
}

/** Null where the bytes are no call of this runtime, or would not be signed as its extrinsics are. */
export function readRemark(api: ApiPromise, payload: RemarkPayload): ReadPayload | null {
  try {
    const { registry } = api
    if (payload.signedExtensions.join() !== registry.signedExtensions.join()) return null
    const call = registry.createType('Call', payload.method)
    // What follows a call would be signed and not shown.
    if (!u8aEq(call.toU8a(), payload.method) || payload.version !== api.extrinsicVersion) return null
    const raw = registry.createType('ExtrinsicPayload', payload, { version: payload.version }).toU8a({ method: true })
    const name = `${call.section}.${call.method}`
    return {
      signer: u8aToHex(decodeAddress(payload.address)).slice(2),
      genesis: payload.genesisHash as ReadPayload['genesis'],
      specVersion: Number(payload.specVersion),
      transactionVersion: Number(payload.transactionVersion),
      call: name,
      remark: name === 'system.remark' ? hexToU8a(call.args[0]!.toHex()) : null,
      signed: raw.length > HASHED_FROM ? blake2AsU8a(raw, 256) : raw,
    }
  } catch {
    // Neither a call of this runtime, nor an address.
    return null
  }
}
