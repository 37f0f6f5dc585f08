/** Proves the audits: who is drawn, who judges, who is convicted, and that nobody is on one word alone. */
import { describe, expect, it } from 'vitest'
import { auditRate, DEFAULT_POLICY, freshStanding, shutOutMs } from '../../../server/audits/policy.ts'
import { standingOf } from '../../../server/audits/audits.ts'
import { claim, copied, Court, device, drawn, flipped, party, replicas, spared, truth, zero } from './court.ts'

describe('the rate', () => {
  it('is a quarter for the new, falls with record to some per cent, and never again so far after a conviction', () => {
    const rate = (passed: number, convictions = 0) =>
      auditRate(DEFAULT_POLICY, { ...freshStanding(), passed, convictions })
    expect(rate(0)).toBe(0.25)
    expect(rate(6)).toBe(0.125)
    expect(rate(1000)).toBeGreaterThanOrEqual(0.03)
    expect(rate(1000)).toBeLessThanOrEqual(0.05)
    expect(rate(1000, 1)).toBe(0.25)
    expect(auditRate(DEFAULT_POLICY, { ...freshStanding(), passed: 1000, watched: 1 })).toBe(1)
  })

  it('decides with what was drawn after the claim', () => {
    const court = new Court()
    expect(court.claimed(claim(), { ...drawn, whether: 0.2499 }).length).toBeGreaterThan(0)
    expect(court.claimed(claim(), { ...drawn, whether: 0.2501 })).toEqual([])
  })

  it('grows the time of being shut out with each conviction, up to a limit', () => {
    const times = [1, 2, 3, 9].map((nth) => shutOutMs(DEFAULT_POLICY, nth))
    expect(times).toEqual(times.toSorted((a, b) => a - b))
    expect(times[1]).toBe(4 * times[0]!)
    expect(times[3]).toBe(DEFAULT_POLICY.longestShutMs)
  })
})

describe('a claim that is right', () => {
  it('passes on one recomputation, which is credited', () => {
    const court = new Court()
    const one = claim()
    const [testify, recompute] = court.claimed(one)
    expect(testify).toMatchObject({ type: 'testify', audit: { id: one.receipt, seed: drawn.seed } })
    expect(recompute).toMatchObject({ type: 'recompute' })
    court.hear(one.receipt, truth, () => truth)
    const juror = (recompute as { juror: { device: string } }).juror.device
    expect(court.of('credit')).toEqual([
      { type: 'credit', place: { run: 'run', generation: 1, step: 10, stage: 1 }, device: juror, credit: 1000n },
    ])
    expect(court.of('closed')).toMatchObject([{ outcome: { verdict: 'passed' } }])
    expect(court.of('convict')).toEqual([])
    expect(standingOf(court.state, device(1))).toMatchObject({ passed: 1, convictions: 0 })
    expect(court.state.audits.size).toBe(0)
  })

  it('waits for what was sent as well as for what was recomputed', () => {
    const court = new Court()
    const one = claim()
    court.claimed(one)
    const juror = court.state.audits.get(one.receipt)!.jurors[0]!.party
    expect(court.tell({ type: 'answered', audit: one.receipt, device: juror.device, evidence: truth })).toEqual([])
    expect(court.of('closed', court.tell({ type: 'testified', audit: one.receipt, evidence: truth }))).toHaveLength(1)
  })

  it('is audited once, however often its receipt comes', () => {
    const court = new Court()
    const one = claim()
    court.claimed(one)
    expect(court.claimed(one)).toEqual([])
  })
})

describe('the jury', () => {
  it('holds neither the accused, nor its wallet’s other devices, nor neighbours, nor who is shut out', () => {
    const bench = [party(1), party(2, 'w'), party(3), party(4), party(5)]
    for (let who = 0; who < 1; who += 0.01) {
      const court = new Court()
      standingOf(court.state, device(5)).shutUntil = 10_000
      const one = claim({ claimant: party(1, 'w'), neighbours: [device(3)] })
      court.claimed(one, { ...drawn, who }, bench)
      expect(court.of('recompute').map(({ juror }) => juror.device)).toEqual([device(4)])
      expect(court.state.audits.get(one.receipt)!.bench).toEqual([])
    }
  })

  it('is drawn from all of them', () => {
    const asked = new Set<string>()
    for (let i = 0; i < 200; i++) {
      const court = new Court()
      court.claimed(claim(), { ...drawn, who: i / 200 })
      asked.add(court.of('recompute')[0]!.juror.device)
    }
    expect(asked).toEqual(new Set([2, 3, 4, 5, 6].map(device)))
  })

  it('never holds two of one wallet', () => {
    const court = new Court()
    const one = claim()
    court.claimed(
      one,
      drawn,
      [2, 3, 4].map((n) => party(n, 'w')),
    )
    const said = court.hear(one.receipt, copied, () => truth)
    expect(court.of('recompute')).toHaveLength(1)
    expect(court.of('closed', said)).toMatchObject([{ outcome: { verdict: 'open' } }])
    expect(court.of('convict')).toEqual([])
  })

  it('asks somebody else where one is gone or does not answer in time', () => {
    const court = new Court()
    const one = claim()
    court.claimed(one)
    court.hear(one.receipt, truth, (_, nth) => (nth === 0 ? null : truth))
    expect(court.of('recompute')).toHaveLength(2)
    expect(court.of('closed')).toMatchObject([{ outcome: { verdict: 'passed' } }])

    const two = claim()
    court.claimed(two)
    court.tell({ type: 'testified', audit: two.receipt, evidence: truth })
    court.now += DEFAULT_POLICY.answerMs + 1
    expect(court.tell({ type: 'tick' })).toMatchObject([{ type: 'recompute' }])
  })

  it('is not needed where nobody is there: nothing is decided', () => {
    const court = new Court()
    const said = court.claimed(claim(), drawn, [party(1)])
    expect(said).toMatchObject([{ type: 'closed', outcome: { verdict: 'open' } }])
  })
})

describe('a claim that is false', () => {
  it.each([
    ['copied', copied, 'activation'],
    ['zero', zero, 'activation'],
    ['of the wrong sign, its input gradient right', flipped, 'parameterGradient'],
    ['short of a tensor', { activation: truth.activation!, inputGradient: truth.inputGradient! }, 'parameterGradient'],
  ])('%s: is convicted by two recomputations that agree, and computed again', (_, evidence, kind) => {
    const court = new Court()
    const one = claim()
    court.claimed(one)
    court.hear(one.receipt, evidence, () => truth)
    expect(court.of('recompute')).toHaveLength(2)
    const [convicted] = court.of('convict')
    expect(convicted!.conviction).toMatchObject({ device: device(1), run: 'run', fromStep: 1, toStep: 10 })
    expect(convicted!.conviction.reason).toContain(kind)
    expect(court.of('redo')).toMatchObject([{ device: device(1), microbatches: [0, 3] }])
    expect(court.of('credit')).toHaveLength(2)
    expect(convicted!.shutUntil).toBe(court.now + DEFAULT_POLICY.shutMs)
  })

  it('costs what was claimed since the last claim that passed', () => {
    const court = new Court()
    const right = claim({ step: 7 })
    court.claimed(right)
    court.hear(right.receipt, truth, () => truth)
    const wrong = claim({ step: 19 })
    court.claimed(wrong)
    court.hear(wrong.receipt, zero, () => truth)
    expect(court.of('convict')[0]!.conviction).toMatchObject({ fromStep: 8, toStep: 19 })
  })

  it('is one offence with what was claimed before the verdict, another one after it', () => {
    const court = new Court()
    const [one, two] = [claim({ step: 3 }), claim({ step: 4 })]
    court.claimed(one)
    court.claimed(two)
    for (const { receipt } of [one, two]) court.hear(receipt, zero, () => truth)
    expect(court.of('convict').map(({ conviction }) => conviction.toStep)).toEqual([3, 4])
    expect(standingOf(court.state, device(1)).convictions).toBe(1)
    court.now += DEFAULT_POLICY.shutMs + 1
    const three = claim({ step: 9 })
    court.claimed(three)
    court.hear(three.receipt, zero, () => truth)
    expect(standingOf(court.state, device(1)).convictions).toBe(2)
    expect(court.of('convict').at(-1)!.shutUntil).toBe(court.now + 4 * DEFAULT_POLICY.shutMs)
  })
})

describe('a juror that lies', () => {
  it('convicts nobody, and is convicted by two others', () => {
    const court = new Court()
    const one = claim()
    court.claimed(one)
    const asked: string[] = []
    court.hear(one.receipt, truth, (juror, nth) => (asked.push(juror), nth === 0 ? zero : truth))
    expect(court.of('closed')).toMatchObject([{ outcome: { verdict: 'passed' } }])
    expect(court.of('convict').map(({ conviction }) => conviction.device)).toEqual([asked[0]])
    expect(court.of('credit').map((command) => command.device)).toEqual([asked[1], asked[2]])
    expect(court.of('redo')).toEqual([])
  })

  it('is not convicted by the accused’s word and one more', () => {
    const court = new Court()
    const one = claim()
    court.claimed(one, drawn, [party(2), party(3)])
    court.hear(one.receipt, zero, (_, nth) => (nth === 0 ? truth : zero))
    expect(court.of('convict')).toEqual([])
    expect(court.of('closed')).toMatchObject([{ outcome: { verdict: 'open' } }])
    // Yet none of them is believed unseen for a while.
    for (const n of [1, 2, 3]) expect(standingOf(court.state, device(n)).watched).toBeGreaterThan(0)
  })

  it('ends in no verdict where everybody says something else', () => {
    const court = new Court({ mostJurors: 4 })
    const one = claim()
    court.claimed(one)
    court.hear(one.receipt, zero, (_, nth) => ({ ...truth, activation: truth.activation!.map((x) => x * (nth + 2)) }))
    expect(court.of('recompute')).toHaveLength(4)
    expect(court.of('convict')).toEqual([])
    expect(court.of('closed')).toMatchObject([{ outcome: { verdict: 'open' } }])
  })
})

describe('the merge of a shard', () => {
  const merge = (agreed: boolean, owners = [party(1), party(2)]) => {
    return { run: 'run', generation: 1, step: 4, stage: 0, shard: 2, owners, agreed }
  }
  const update = { update: truth.parameterGradient! }
  const boosted = { update: truth.parameterGradient!.map((x) => 1.5 * x) }
  const id = 'run 1 4 0 2'

  it('convicts two owners who agree on a false sum', () => {
    const court = new Court()
    court.tell({ type: 'merged', claim: merge(true), draw: drawn, replicas })
    court.hear(id, boosted, () => update)
    expect(court.of('convict').map(({ conviction }) => conviction.device)).toEqual([device(1), device(2)])
    expect(court.of('redoMerge')).toMatchObject([{ shard: 2 }])
  })

  it('is looked at for sure where they do not agree, else by chance', () => {
    const court = new Court()
    expect(court.tell({ type: 'merged', claim: merge(true), draw: spared, replicas })).toEqual([])
    expect(court.tell({ type: 'merged', claim: merge(false), draw: spared, replicas })).not.toEqual([])
  })

  it('passes when the sum is right', () => {
    const court = new Court()
    court.tell({ type: 'merged', claim: merge(true), draw: drawn, replicas })
    court.hear(id, update, () => update)
    expect(court.of('convict')).toEqual([])
    expect(court.of('closed')).toMatchObject([{ outcome: { verdict: 'passed' } }])
  })
})

describe('an incident', () => {
  it('waives what was decided since, and punishes nobody while it lasts', () => {
    const court = new Court()
    const wrong = (step: number) => {
      const one = claim({ step })
      court.claimed(one)
      court.hear(one.receipt, zero, () => truth)
    }
    wrong(3)
    expect(standingOf(court.state, device(1)).shutUntil).toBeGreaterThan(court.now)
    court.tell({ type: 'incident', reason: 'a driver update', since: 500 })
    expect(court.of('waive')).toEqual([{ type: 'waive', device: device(1), reason: 'a driver update' }])
    expect(standingOf(court.state, device(1))).toMatchObject({ convictions: 0, shutUntil: 0 })

    wrong(4)
    expect(court.of('convict')).toHaveLength(1)
    expect(court.of('waive')).toHaveLength(2)
    // Wrong is wrong: others compute it again.
    expect(court.of('redo')).toHaveLength(2)

    court.tell({ type: 'incidentOver' })
    wrong(5)
    expect(court.of('convict')).toHaveLength(2)
  })

  it('leaves alone what was decided before', () => {
    const court = new Court()
    const one = claim()
    court.claimed(one)
    court.hear(one.receipt, zero, () => truth)
    court.tell({ type: 'incident', reason: 'later', since: 5000 })
    expect(court.of('waive')).toEqual([])
    expect(standingOf(court.state, device(1)).convictions).toBe(1)
  })
})

it('closes an audit whose claim nobody can show, and watches the claimant', () => {
  const court = new Court()
  court.claimed(claim())
  court.now += DEFAULT_POLICY.answerMs + 1
  expect(court.tell({ type: 'tick' })).toMatchObject([{ type: 'closed', outcome: { verdict: 'open' } }])
  expect(standingOf(court.state, device(1)).watched).toBe(DEFAULT_POLICY.watch)
})

describe('a claimant that does not show what it signed for', () => {
  const fails = (court: Court) => {
    const one = claim()
    court.claimed(one)
    court.now += DEFAULT_POLICY.answerMs + 1
    return court.tell({ type: 'tick' })
  }

  it('is watched, and convicted when that happens again and again', () => {
    const court = new Court()
    for (let i = 0; i < DEFAULT_POLICY.mostUnshown; i++)
      expect(fails(court)).toMatchObject([{ type: 'closed', outcome: { verdict: 'open' } }])
    expect(standingOf(court.state, device(1)).watched).toBe(DEFAULT_POLICY.watch)
    expect(fails(court).map(({ type }) => type)).toEqual(['convict', 'redo', 'closed'])
    expect(standingOf(court.state, device(1))).toMatchObject({ convictions: 1, unshown: 0 })
  })

  it('is not for failing now and then among many that it showed', () => {
    const court = new Court()
    for (let i = 0; i < 6; i++) {
      expect(court.of('convict', fails(court))).toEqual([])
      for (let n = 0; n < DEFAULT_POLICY.passedPerUnshown; n++) {
        const one = claim()
        court.claimed(one)
        court.hear(one.receipt, truth, () => truth)
      }
    }
  })

  it('is convicted though it shows what is honest in between, where it fails whenever it is not', () => {
    const court = new Court()
    let convicted = 0
    for (let i = 0; i < 4; i++) {
      convicted += court.of('convict', fails(court)).length
      for (let n = 0; n < DEFAULT_POLICY.watch; n++) {
        const one = claim()
        court.claimed(one)
        court.hear(one.receipt, truth, () => truth)
      }
    }
    expect(convicted).toBe(1)
  })

  it('is nobody whose claim was withdrawn', () => {
    const court = new Court()
    for (let i = 0; i < 5; i++) {
      const one = claim()
      court.claimed(one)
      expect(court.tell({ type: 'withdrawn', audit: one.receipt })).toMatchObject([{ outcome: { verdict: 'open' } }])
    }
    expect(standingOf(court.state, device(1))).toMatchObject({ watched: 0, unshown: 0 })
  })
})
