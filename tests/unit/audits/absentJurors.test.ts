/** Proves what becomes of an audit whose jurors are silent or gone: others are asked in time, and nobody gains by their absence. */
import { describe, expect, it } from 'vitest'
import { standingOf } from '../../../server/audits/audits.ts'
import { auditRate, DEFAULT_POLICY } from '../../../server/audits/policy.ts'
import { claim, Court, device, drawn, flipped, party, spared, truth } from './court.ts'

describe('the jury', () => {
  it('asks somebody beside who is silent, well before its deadline, and takes whoever answers first', () => {
    for (const first of [true, false]) {
      const court = new Court()
      const one = claim()
      court.claimed(one)
      court.tell({ type: 'testified', audit: one.receipt, evidence: truth })
      court.now += DEFAULT_POLICY.patienceMs - 1
      expect(court.tell({ type: 'tick' })).toEqual([])
      court.now += 1
      expect(court.tell({ type: 'tick' })).toMatchObject([{ type: 'recompute' }])
      const [slow, quick] = court.of('recompute').map(({ juror }) => juror.device)
      const said = court.tell({ type: 'answered', audit: one.receipt, device: first ? slow! : quick!, evidence: truth })
      expect(court.of('closed', said)).toMatchObject([{ outcome: { verdict: 'passed' } }])
      expect(court.of('credit')).toHaveLength(1)
    }
  })

  it('asks no more than some beside the silent, and nobody instead of whom another was asked beside', () => {
    const court = new Court()
    const one = claim()
    court.claimed(one)
    court.tell({ type: 'testified', audit: one.receipt, evidence: truth })
    for (let i = 0; i < 10; i++) {
      court.now += DEFAULT_POLICY.patienceMs
      court.tell({ type: 'tick' })
    }
    expect(court.of('recompute')).toHaveLength(1 + DEFAULT_POLICY.mostLate)
    const [first] = court.of('recompute')
    expect(court.tell({ type: 'excused', audit: one.receipt, device: first!.juror.device })).toEqual([])
  })

  it('convicts by two where a third stays silent', () => {
    const court = new Court()
    const one = claim()
    court.claimed(one)
    court.tell({ type: 'testified', audit: one.receipt, evidence: flipped })
    court.now += DEFAULT_POLICY.patienceMs
    court.tell({ type: 'tick' })
    const answer = (nth: number) =>
      court.tell({ type: 'answered', audit: one.receipt, device: court.of('recompute')[nth]!.juror.device, evidence: truth }) // prettier-ignore
    // The silent one may never confirm it: another is asked at once.
    expect(answer(1)).toMatchObject([{ type: 'recompute' }])
    expect(court.of('convict', answer(2))).toMatchObject([{ conviction: { device: device(1) } }])
  })

  it('comes from those who are still at work when the free ones are used up', () => {
    const court = new Court()
    const one = claim()
    const [free, busy] = [[2, 3].map((n) => party(n)), [1, 4, 5].map((n) => party(n))]
    court.tell({ type: 'claimed', claim: one, draw: drawn, replicas: free, reserves: busy })
    court.hear(one.receipt, flipped, (_, nth) => (nth < 2 ? null : truth))
    const asked = court.of('recompute').map(({ juror }) => juror.device)
    expect(asked.slice(0, 2).sort()).toEqual([2, 3].map(device))
    expect(asked.slice(2).sort()).toEqual([4, 5].map(device))
    expect(court.of('convict').map(({ conviction }) => conviction.device)).toEqual([device(1)])
  })

  it('that fails whole costs the claimant record, and its next claim is looked at for sure', () => {
    const court = new Court()
    standingOf(court.state, device(1)).passed = 1000
    const one = claim()
    court.claimed(one)
    court.hear(one.receipt, flipped, () => null)
    expect(court.of('closed')).toMatchObject([{ outcome: { verdict: 'open' } }])
    expect(court.of('convict')).toEqual([])
    expect(standingOf(court.state, device(1))).toMatchObject({ watched: 1, passed: 1000 - DEFAULT_POLICY.halving })
    expect(court.claimed(claim(), spared)).not.toEqual([])
    // And again until it goes well: then its record alone tells.
    expect(court.claimed(claim(), spared)).toEqual([])
    for (let i = 0; i < 200; i++) {
      const next = claim()
      court.claimed(next)
      court.hear(next.receipt, flipped, () => null)
    }
    standingOf(court.state, device(1)).watched = 0
    expect(auditRate(DEFAULT_POLICY, standingOf(court.state, device(1)))).toBe(DEFAULT_POLICY.newRate)
  })

  it('is not waited for once the step is over, and the claimant’s silence alone goes by its deadline', () => {
    const court = new Court()
    const [shown, unshown] = [claim(), claim()]
    for (const one of [shown, unshown]) court.claimed(one)
    court.tell({ type: 'testified', audit: shown.receipt, evidence: truth })
    expect(court.tell({ type: 'outlived', audit: shown.receipt })).toMatchObject([{ outcome: { verdict: 'open' } }])
    expect(standingOf(court.state, device(1)).watched).toBe(1)
    expect(court.tell({ type: 'outlived', audit: unshown.receipt })).toEqual([])
  })
})
