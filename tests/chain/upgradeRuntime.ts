/** Owns a runtime upgrade of the local chain: the same code under the next spec version, enacted between two blocks. */
import { zstdDecompressSync } from 'node:zlib'
import type { LocalChain } from '../../server/chain/local/localChain.ts'

/** `:code` */
const CODE = '0x3a636f6465'
/** What a compressed runtime begins with: the prefix of sp-maybe-compressed-blob. */
const COMPRESSED = '52bc537646db8e05'

const little = (value: number) => Buffer.from([value & 255, (value >> 8) & 255, 0, 0])
/** `i32.const value`, for values of two bytes in LEB128. */
const constant = (value: number) => Buffer.from([0x41, (value & 127) | 128, value >> 7])

function replaceAll(code: Buffer, from: Buffer, to: Buffer): number {
  let replaced = 0
  for (let at = code.indexOf(from); at >= 0; at = code.indexOf(from, at + 1)) {
    to.copy(code, at)
    replaced++
  }
  return replaced
}

export async function upgradeRuntime(local: LocalChain, from: number, to: number): Promise<void> {
  const { chain } = local
  const stored = Buffer.from(((await chain.head.get(CODE)) as string).slice(2), 'hex')
  const compressed = stored.toString('hex', 0, 8) === COMPRESSED
  const code = compressed ? zstdDecompressSync(stored.subarray(8)) : stored
  if (replaceAll(code, little(from), little(to)) + replaceAll(code, constant(from), constant(to)) === 0)
    throw new Error(`The runtime does not hold version ${from}.`)
  chain.head.pushStorageLayer().setAll([[CODE, `0x${code.toString('hex')}`]])
  await local.build(1)
  const { specVersion } = await chain.head.runtimeVersion
  if (specVersion !== to) throw new Error(`The runtime says version ${specVersion}.`)
}
