/** Owns the genesis state of the local chain: a public chain's own, with a clock that has started and funded accounts. */
import { rococo_v2_2_asset_hub } from '@substrate/connect-known-chains'
import { bnToHex, hexToU8a, u8aConcat, u8aToHex } from '@polkadot/util'
import { blake2AsU8a, xxhashAsU8a } from '@polkadot/util-crypto'
import { z } from 'zod'

/** Milliseconds of a slot in the runtime; blocks are built at another pace in wall time. */
export const SLOT_MS = 12_000

const hex = z.custom<`0x${string}`>((value) => typeof value === 'string' && /^0x([0-9a-f]{2})*$/.test(value))

const chainSpecSchema = z.object({
  id: z.string(),
  name: z.string(),
  properties: z.object({ tokenDecimals: z.number(), tokenSymbol: z.string(), ss58Format: z.number().optional() }),
  genesis: z.object({ raw: z.object({ top: z.record(z.string(), hex) }) }),
})
export type ChainSpec = z.infer<typeof chainSpecSchema>

/** The key of a storage value, or of a map's entry with a blake2_128_concat key. */
function storageKey(pallet: string, item: string, entry?: Uint8Array): `0x${string}` {
  const prefix = u8aConcat(xxhashAsU8a(pallet, 128), xxhashAsU8a(item, 128))
  return u8aToHex(entry ? u8aConcat(prefix, blake2AsU8a(entry, 128), entry) : prefix)
}

const little = (value: bigint, bits: number) => bnToHex(value, { bitLength: bits, isLe: true })

/** SCALE of `AccountInfo`: no nonce, one provider, `free` planck and nothing reserved or frozen. */
function accountInfo(free: bigint): `0x${string}` {
  const counts = [0n, 0n, 1n, 0n].map((count) => hexToU8a(little(count, 32)))
  const balances = [free, 0n, 0n, 0n].map((planck) => hexToU8a(little(planck, 128)))
  return u8aToHex(u8aConcat(...counts, ...balances))
}

/**
 * The published genesis of Rococo Asset Hub. Its first block fails unless the clock stands at a slot, and it holds no balances.
 * @param now Unix milliseconds of the slot before the first block
 * @param free planck by public key (32 bytes)
 */
export function localGenesis(now: number, free: ReadonlyMap<Uint8Array, bigint>): ChainSpec {
  const spec = chainSpecSchema.parse(JSON.parse(rococo_v2_2_asset_hub))
  const { top } = spec.genesis.raw
  const slot = BigInt(Math.floor(now / SLOT_MS))
  top[storageKey('Timestamp', 'Now')] = little(slot * BigInt(SLOT_MS), 64)
  top[storageKey('Aura', 'CurrentSlot')] = little(slot, 64)
  let issued = 0n
  for (const [account, planck] of free) {
    top[storageKey('System', 'Account', account)] = accountInfo(planck)
    issued += planck
  }
  top[storageKey('Balances', 'TotalIssuance')] = little(issued, 128)
  return spec
}
