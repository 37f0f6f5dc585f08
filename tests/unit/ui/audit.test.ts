/** Proves the words for audits, and that the book of a run's audits pages backwards. */
import { describe, expect, it } from 'vitest'
import type { AuditDistance, AuditsView, AuditView, StandingView } from '../../../src/protocol/auditApi.ts'
import { AuditBook } from '../../../src/ui/state/auditBook.svelte.ts'
import { distanceWords, standingWords, totalsWords, verdictWords } from '../../../src/ui/words/audit.ts'
import { hex } from '../ledger/sampleLedger.ts'

const plain = (text: string) => text.replaceAll('\u00a0', ' ')
const distance = (more: Partial<AuditDistance>): AuditDistance => ({
  ...{ tensor: 'activation', quantile: 'median', distance: 1e-5, tolerance: 1e-2 },
  ...more,
})

describe('how far a claim was off', () => {
  it.each([
    [[], '–'],
    [[distance({ distance: 0 })], 'the same bits: activation'],
    [[distance({}), distance({ tensor: 'loss', distance: 5e-3 })], '50 % of what is allowed: loss'],
    [[distance({ distance: 1e-6 })], 'under 0.1 % of what is allowed: activation'],
    [
      [distance({}), distance({ tensor: 'parameterGradient', distance: 20 })],
      '2,000 times what is allowed: gradient of the weights',
    ],
    [[distance({ distance: null, tensor: 'inputGradient' })], 'not finite: gradient of the input'],
  ])('is told by the tensor that is farthest: %o', (distances, words) => {
    expect(plain(distanceWords(distances))).toBe(words)
  })
})

const totals = { audits: 8, passed: 6, convicted: 1, open: 1, recomputed: '50', trained: '1000' }

it('what audits found and cost is one sentence each', () => {
  expect(plain(totalsWords({ totals }))).toBe(
    '8 claims were audited: 6 passed, 1 found something false, 1 stayed open. Computing them again took 5 % of what the run computed.',
  )
  expect(totalsWords({ totals: { ...totals, audits: 10 } })).toContain('1 stayed open, 2 are under way.')
  expect(totalsWords({ totals: { ...totals, audits: 1, trained: null } })).toContain('1 claim was audited')
})

it('a standing says what the record is, and what follows', () => {
  const standing: StandingView = {
    ...{ device: hex(1), audited: 7, passed: 6, rate: 0.125, watched: 0 },
    ...{ convictions: 0, shutUntil: null, reason: null },
  }
  expect(plain(standingWords(standing))).toBe(
    'Audited 7, passed 6. Of its claims 13 % are audited now; that falls as more are passed.',
  )
  expect(standingWords({ ...standing, audited: 0, watched: 3 })).toMatch(
    /^No claim.*next 3 claims are audited for sure/,
  )
  const shut = standingWords({ ...standing, shutUntil: Date.UTC(2026, 10, 30), reason: 'loss beyond tolerance' })
  expect(shut).toMatch(/^Shut out until .*2026.*because of an audit: loss beyond tolerance\.$/)
})

it('a verdict has a mood that does not rest on colour', () => {
  expect((['passed', 'convicted', 'open', null] as const).map((verdict) => verdictWords({ verdict }).mood)).toEqual([
    'working',
    'trouble',
    'still',
    'busy',
  ])
})

it('the book shows the newest, and older ones when they are asked for', async () => {
  const all = Array.from({ length: 45 }, (_, i) => ({ number: i + 1 }) as AuditView).reverse()
  const asked: (number | null)[] = []
  const book = new AuditBook('r1', {
    audits(_, limit, before = null) {
      asked.push(before)
      const audits = all.filter(({ number }) => before === null || number < before).slice(0, limit)
      return Promise.resolve<AuditsView>({ audits, totals: { ...totals, audits: 45 }, drawn: true, incident: null })
    },
  })
  await book.refresh()
  expect([book.audits.length, book.hasOlder]).toEqual([20, true])
  await book.older()
  await book.older()
  expect([book.audits.length, book.hasOlder]).toEqual([45, false])
  expect(asked).toEqual([null, null, 26, null, 26, 6])
})
