/** Proves where the tensors of a claim are looked for when somebody crashed: whoever holds bytes that were signed for twice. */
import { describe, expect, it } from 'vitest'
import { inputHolder, isHeard, outputTakers } from '../../../server/orchestrator/whereabouts.ts'
import { type Fleet, training } from './fleet.ts'

/** Stage 1: a, d, g; stage 2: b, e, h; stage 3: c, f, i. */
const NODES = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i']
const audited = () => training({ stages: 3, replicas: 3, batch: 6 }, NODES, {}, { auditMs: 3000 })
const claimOf = (fleet: Fleet, id: string) => fleet.of('claimed').find(({ claim }) => claim.nodeId === id)!.claim
const lost = (fleet: Fleet, id: string) => {
  fleet.do({ type: 'nodeDetached', nodeId: id })
  fleet.pass(1500, NODES.filter((other) => other !== id)) // prettier-ignore
}

function claimed() {
  const fleet = audited()
  fleet.finishAll()
  const claim = claimOf(fleet, 'b')
  const [entry] = claim.entries
  const input = (direction: 'activation' | 'gradient') => inputHolder(fleet.state, claim, entry!.microbatch, direction)
  return { fleet, claim, entry: entry!, input }
}

describe('an input of a claim', () => {
  it('is asked of whoever made it, as long as it is heard', () => {
    const { fleet, entry, input } = claimed()
    expect([input('activation'), input('gradient')]).toEqual([entry.up, entry.down])
    expect(isHeard(fleet.state, 'run', entry.up!)).toBe(true)
  })

  it('is asked of the claimant where its maker had signed for it before it crashed', () => {
    const { fleet, entry, input } = claimed()
    lost(fleet, entry.up!)
    expect(isHeard(fleet.state, 'run', entry.up!)).toBe(false)
    expect([input('activation'), input('gradient')]).toEqual(['b', entry.down])
  })

  it('is asked of nobody where only the claimant says that it was this', () => {
    const { fleet, claim, entry } = claimed()
    lost(fleet, entry.up!)
    const other = { ...entry, activationTaken: '0'.repeat(32) }
    expect(inputHolder(fleet.state, { ...claim, entries: [other] }, entry.microbatch, 'activation')).toBeNull()
  })

  it('is asked of nobody once the step is over, or the claimant is gone as well', () => {
    const { fleet, claim, entry, input } = claimed()
    expect(inputHolder(fleet.state, { ...claim, step: 2 }, entry.microbatch, 'activation')).toBeNull()
    lost(fleet, entry.up!)
    lost(fleet, 'b')
    expect(input('activation')).toBeNull()
  })
})

describe('what a claimant made', () => {
  it('is with its neighbours and with the owners of the shard, those who are heard', () => {
    const { fleet, claim, entry } = claimed()
    const { microbatch } = entry
    const owners = fleet.run().owners[1]![0]!.filter((id) => id !== 'b')
    const takers = () => outputTakers(fleet.state, claim, { microbatch, shard: 0 })
    expect(takers()).toEqual([
      { kind: 'activation', nodeId: entry.down },
      { kind: 'gradient', nodeId: entry.up },
      ...owners.map((nodeId) => ({ kind: 'share', nodeId })),
    ])
    lost(fleet, entry.down!)
    expect(takers().map(({ kind }) => kind)).not.toContain('activation')
  })
})
