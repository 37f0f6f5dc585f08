/** Owns a runtime upgrade of the local chain: the same code under the next spec version, enacted between two blocks. */
import { zstdDecompressSync } from 'node:zlib'
import type { LocalChain } from '../../server/chain/local/localChain.ts'

/** What a compressed runtime begins with: the prefix of sp-maybe-compressed-blob. */
const COMPRESSED = '52bc537646db8e05'

/** A `RuntimeVersion` holds the authoring, spec and implementation version one after another. */
function versions(spec: number): Buffer {
  const bytes = Buffer.alloc(12)
  bytes.writeUInt32LE(1, 0)
  bytes.writeUInt32LE(spec, 4)
  return bytes
}

/**
 * `i64.const` in LEB128 of the spec version and, above it, transaction version 6: what signatures cover, folded into the code.
 */
function signedVersions(spec: number): Buffer {
  const bytes = [0x42]
  let left = BigInt(spec) | (6n << 32n)
  for (; left > 63n; left >>= 7n) bytes.push(Number(left & 127n) | 128)
  return Buffer.from([...bytes, Number(left)])
}

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
  const stored = Buffer.from((await chain.head.wasm).slice(2), 'hex')
  const compressed = stored.toString('hex', 0, 8) === COMPRESSED
  const code = compressed ? zstdDecompressSync(stored.subarray(8)) : stored
  // Twice in data, for the runtime and for nodes, and once in code.
  const replaced =
    replaceAll(code, versions(from), versions(to)) + replaceAll(code, signedVersions(from), signedVersions(to))
  if (replaced !== 3) throw new Error(`The runtime holds version ${from} ${replaced} times.`)
  chain.head.setWasm(`0x${code.toString('hex')}`)
  await local.build(1)
  const { specVersion } = await chain.head.runtimeVersion
  if (specVersion !== to) throw new Error(`The runtime says version ${specVersion}.`)
}
