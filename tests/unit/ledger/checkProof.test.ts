/** Proves that a page accepts the proof of its account and no other figures, account, epoch or root. */
import { expect, it } from 'vitest'
import { nodeSha256 } from '../../../server/ledger/nodeSha256.ts'
import { checkProof } from '../../../src/ledger/checkProof.ts'
import { leafBodies, treeOf } from '../../../src/ledger/leaves.ts'
import { auditPath } from '../../../src/ledger/merkle.ts'
import { rowHash } from '../../../src/ledger/rows.ts'
import { canonicalJson } from '../../../src/ledger/canonicalJson.ts'
import type { LedgerRow, SealRow } from '../../../src/protocol/ledger.ts'
import { hex, SampleLedger, work } from './sampleLedger.ts'

const ledger = new SampleLedger()
for (let i = 1; i <= 13; i++) ledger.add(work({ device: hex(i), credit: String(i) }))
const bodies = leafBodies(ledger.state)
const tree = treeOf(nodeSha256, 1, bodies)
const text = ledger.seal()
const seal = { ...text, entry: JSON.parse(text.entry) } as SealRow
const answer = (index: number) => ({
  proof: { leaf: { ...bodies[index]!, epoch: 1 }, index, path: auditPath(tree, index) },
  seal,
})
const asked = (index: number) => ({ account: bodies[index]!.account, epoch: 1 })
const rehashed = (entry: SealRow['entry']) => ({
  ...seal,
  entry,
  hash: rowHash(nodeSha256, seal.seq, seal.at, seal.prev, canonicalJson(entry)),
})

it('every account’s proof holds, against the anchored root too', () => {
  for (let index = 0; index < 13; index++) {
    const { leaf } = checkProof(answer(index), asked(index))
    expect(leaf.earned).toBe(String(index + 1))
    expect(checkProof(answer(index), asked(index), seal.entry.root).seal.entry.accounts).toBe(13)
  }
})

it.each([
  ['proof.shape', { ...answer(3), proof: null }],
  ['proof.shape', { ...answer(3), proof: { ...answer(3).proof, path: ['zz'] } }],
  ['proof.account', answer(4)],
  ['proof.epoch', { ...answer(3), seal: rehashed({ ...seal.entry, epoch: 2 }) }],
  ['proof.epoch', { ...answer(3), proof: { ...answer(3).proof, leaf: { ...answer(3).proof.leaf, epoch: 2 } } }],
  ['proof.balance', { ...answer(3), proof: { ...answer(3).proof, leaf: { ...answer(3).proof.leaf, balance: '9' } } }],
  ['proof.root', { ...answer(3), proof: { ...answer(3).proof, leaf: { ...answer(3).proof.leaf, earned: '5' } } }],
  ['proof.root', { ...answer(3), proof: { ...answer(3).proof, index: 2 } }],
  ['proof.root', { ...answer(3), proof: { ...answer(3).proof, path: answer(2).proof.path } }],
  ['proof.root', { ...answer(3), seal: rehashed({ ...seal.entry, accounts: 3 }) }],
  ['proof.root', { ...answer(3), seal: rehashed({ ...seal.entry, root: hex(5) }) }],
  ['proof.seal_hash', { ...answer(3), seal: { ...seal, entry: { ...seal.entry, credit: '1' } } }],
])('%s refuses what was changed', (code, changed: { proof: unknown; seal: LedgerRow }) => {
  expect(() => checkProof(changed, asked(3))).toThrow(expect.objectContaining({ code }))
})

it('a root that is not the anchored one is refused', () => {
  expect(() => checkProof(answer(3), asked(3), hex(5))).toThrow(expect.objectContaining({ code: 'proof.anchor' }))
})
