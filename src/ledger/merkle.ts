/**
 * Owns the Merkle tree of an epoch: RFC 6962, section 2.1, where a leaf can never pass for a node. A level's odd node goes up
 * unchanged, which makes the same tree as the RFC's split at the largest power of two.
 */
import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js'
import type { Leaf } from '../protocol/ledger.ts'
import { canonicalJson } from './canonicalJson.ts'
import type { Sha256 } from './sha256.ts'

/** Levels from the leaves' hashes up to the root alone; no levels without leaves. */
export type MerkleTree = readonly (readonly Uint8Array[])[]

export function leafHash(sha256: Sha256, leaf: Leaf): Uint8Array {
  return hexToBytes(sha256.text(`\0${canonicalJson(leaf)}`))
}

function nodeHash(sha256: Sha256, left: Uint8Array, right: Uint8Array): Uint8Array {
  const joined = new Uint8Array(65)
  joined[0] = 1
  joined.set(left, 1)
  joined.set(right, 33)
  return sha256.bytes(joined)
}

export function merkleTree(sha256: Sha256, leaves: readonly Uint8Array[]): MerkleTree {
  const levels: Uint8Array[][] = leaves.length === 0 ? [] : [[...leaves]]
  for (let level = levels[0]; level && level.length > 1; level = levels.at(-1)!) {
    const above: Uint8Array[] = []
    for (let i = 0; i < level.length; i += 2)
      above.push(i + 1 < level.length ? nodeHash(sha256, level[i]!, level[i + 1]!) : level[i]!)
    levels.push(above)
  }
  return levels
}

/** In hex; without leaves the hash of nothing, as the RFC has it. */
export function merkleRoot(sha256: Sha256, tree: MerkleTree): string {
  const root = tree.at(-1)?.[0]
  return root ? bytesToHex(root) : sha256.text('')
}

/** The hashes that lead from leaf `index` to the root, in hex. */
export function auditPath(tree: MerkleTree, index: number): string[] {
  const path: string[] = []
  for (const [height, level] of tree.slice(0, -1).entries()) {
    const beside = level[(index >> height) ^ 1]
    if (beside) path.push(bytesToHex(beside))
  }
  return path
}

/**
 * The root that a leaf and its path give in a tree of `size` leaves, in hex (RFC 9162, section 2.1.3.2); null when the path
 * does not fit such a tree.
 */
export function rootFromPath(
  sha256: Sha256,
  leaf: Uint8Array,
  index: number,
  size: number,
  path: readonly string[],
): string | null {
  if (!Number.isSafeInteger(index) || index < 0 || index >= size) return null
  let node = leaf
  let position = index
  let width = size
  let used = 0
  for (; width > 1; width = Math.ceil(width / 2), position = Math.floor(position / 2)) {
    const alone = position % 2 === 0 && position + 1 === width
    if (alone) continue
    const beside = path[used++]
    if (beside === undefined) return null
    const other = hexToBytes(beside)
    node = position % 2 === 0 ? nodeHash(sha256, node, other) : nodeHash(sha256, other, node)
  }
  return used === path.length ? bytesToHex(node) : null
}
