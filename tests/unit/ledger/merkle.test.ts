/** Proves that the tree is RFC 6962's, that every leaf has a proof, and that no other leaf passes with it. */
import { createHash } from 'node:crypto'
import { expect, it } from 'vitest'
import { nodeSha256 } from '../../../server/ledger/nodeSha256.ts'
import { canonicalJson } from '../../../src/ledger/canonicalJson.ts'
import { auditPath, leafHash, merkleRoot, merkleTree, rootFromPath } from '../../../src/ledger/merkle.ts'
import { portableSha256 } from '../../../src/ledger/sha256.ts'
import { hex } from './sampleLedger.ts'

const hashed = (data: string) => new Uint8Array(createHash('sha256').update(`00${data}`, 'hex').digest())

/** Inputs and roots of the Certificate Transparency reference implementation (merkle_tree_test.cc). */
const inputs = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f']
const roots = [
  '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
  'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
  'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
  'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
  '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
  '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
  'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
  '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
]

it.each(roots.map((root, i) => [i + 1, root] as const))('the root of %i leaves is the reference’s', (size, root) => {
  const leaves = inputs.slice(0, size).map(hashed)
  for (const sha256 of [nodeSha256, portableSha256]) expect(merkleRoot(sha256, merkleTree(sha256, leaves))).toBe(root)
})

it('no leaves have the hash of nothing', () => {
  const root = merkleRoot(portableSha256, merkleTree(portableSha256, []))
  expect(root).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855')
})

it('each leaf of trees of 1 to 70 leads to the root, and at no other place or size or with another path', () => {
  for (let size = 1; size <= 70; size++) {
    const leaves = Array.from({ length: size }, (_, i) => hashed(hex(i)))
    const tree = merkleTree(nodeSha256, leaves)
    const root = merkleRoot(nodeSha256, tree)
    for (const [index, leaf] of leaves.entries()) {
      const path = auditPath(tree, index)
      const from = (...[at, of, by]: [number, number, string[]]) => rootFromPath(nodeSha256, leaf, at, of, by)
      expect(from(index, size, path)).toBe(root)
      expect(rootFromPath(nodeSha256, hashed(hex(size)), index, size, path)).not.toBe(root)
      for (const other of [index - 1, index + 1, index ^ 2])
        if (other !== index) expect(from(other, size, path)).not.toBe(root)
      expect(from(index, size, [...path, hex(0)])).toBeNull()
      if (path.length === 0) continue
      expect(from(index, size, path.slice(1))).toBeNull()
      expect(from(index, size, [hex(7), ...path.slice(1)])).not.toBe(root)
    }
  }
})

it('a node never passes for a leaf', () => {
  const leaf = { account: `device:${hex(1)}`, balance: '0', earned: '1', epoch: 1, paid: '0', voided: '0', worth: '0' }
  const bytes = leafHash(nodeSha256, leaf)
  expect(Buffer.from(bytes).toString('hex')).toBe(
    createHash('sha256')
      .update(`\0${canonicalJson(leaf)}`)
      .digest('hex'),
  )
})

it('canonical JSON sorts keys at every depth and refuses what has more than one text', () => {
  expect(canonicalJson({ b: [{ d: null, c: '“é”\n' }], a: -3 })).toBe('{"a":-3,"b":[{"c":"“é”\\n","d":null}]}')
  for (const value of [0.5, NaN, -0, 2 ** 53, true, undefined, 3n])
    expect(() => canonicalJson({ value: value as never })).toThrow(
      expect.objectContaining({ code: 'ledger.not_canonical' }),
    )
})
