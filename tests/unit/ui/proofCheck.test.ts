/** Owns the proof that the page believes no proof that it has not verified, and says of which kind a lie is. */
import { expect, test } from 'vitest'
import { nodeSha256 } from '../../../server/ledger/nodeSha256.ts'
import { leafBodies, treeOf } from '../../../src/ledger/leaves.ts'
import { auditPath } from '../../../src/ledger/merkle.ts'
import type { AccountId, ProofAnswer } from '../../../src/protocol/ledger.ts'
import { ProofCheck } from '../../../src/ui/state/proofCheck.svelte.ts'
import { hex, SampleLedger, work } from '../ledger/sampleLedger.ts'

const account: AccountId = `device:${hex(2)}`

/** What an honest server answers for one of three accounts. */
function honest(): ProofAnswer {
  const ledger = new SampleLedger()
  for (const device of [1, 2, 3]) ledger.add(work({ device: hex(device), step: device }))
  const bodies = leafBodies(ledger.state)
  const { entry, ...row } = ledger.seal()
  const index = bodies.findIndex((body) => body.account === account)
  const path = auditPath(treeOf(nodeSha256, 1, bodies), index)
  return {
    proof: { leaf: { ...bodies[index]!, epoch: 1 }, index, path },
    seal: { ...row, entry: JSON.parse(entry) as ProofAnswer['seal']['entry'] },
  }
}

const checking = (answer: () => unknown) => new ProofCheck({ proof: () => Promise.resolve(answer()) })

test('a proof that holds is shown with the length of its path', async () => {
  const answer = honest()
  const check = checking(() => answer)
  await check.check(account, 1, answer.seal.entry.root)
  expect(check.progress).toMatchObject({ name: 'holds', verdict: { pathLength: 2, anchored: true } })
  expect(check.words).toBe('The proof holds.')
})

test.each<[string, (answer: ProofAnswer) => void, string]>([
  ['more credit', ({ proof }) => (proof.leaf.earned += '0'), 'proof.root'],
  ['another path', ({ proof }) => (proof.path[0] = hex(9)), 'proof.root'],
  ['another root', ({ seal }) => (seal.entry.root = hex(9)), 'proof.seal_hash'],
  ['another account', ({ proof }) => (proof.leaf.account = `device:${hex(1)}`), 'proof.account'],
])('a proof with %s is refused', async (_, forge, code) => {
  const answer = honest()
  forge(answer)
  const check = checking(() => answer)
  await check.check(account, 1, null)
  expect(check.progress).toMatchObject({ name: 'refused', error: { code } })
})

test('a root that is not the chain’s is refused although the proof holds', async () => {
  const check = checking(honest)
  await check.check(account, 1, hex(9))
  expect(check.progress).toMatchObject({ name: 'refused', error: { code: 'proof.anchor' } })
})

test('an answer that comes after the page has turned to another account is dropped', async () => {
  const check = checking(honest)
  const asked = check.check(account, 1, null)
  check.forget()
  await asked
  expect(check.progress).toEqual({ name: 'none' })
})
