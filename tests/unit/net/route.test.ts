/** Proves how a relayed connection is told from a direct one. */
import { describe, expect, it } from 'vitest'
import { routeOf } from '../../../src/net/route.ts'

const candidates = (local: string, remote: string) => [
  { id: 'L', type: 'local-candidate', candidateType: local },
  { id: 'R', type: 'remote-candidate', candidateType: remote },
]
const pair = { id: 'P', type: 'candidate-pair', localCandidateId: 'L', remoteCandidateId: 'R' }

describe('routeOf', () => {
  it('reads the transport’s selected pair', () => {
    const transport = { id: 'T', type: 'transport', selectedCandidatePairId: 'P' }
    expect(routeOf([transport, pair, ...candidates('host', 'srflx')])).toBe('direct')
    expect(routeOf([transport, pair, ...candidates('relay', 'host')])).toBe('relayed')
    expect(routeOf([transport, pair, ...candidates('host', 'relay')])).toBe('relayed')
  })

  it('takes the nominated pair where no transport is reported', () => {
    const nominated = { ...pair, state: 'succeeded', nominated: true }
    expect(routeOf([{ ...pair, id: 'Q' }, nominated, ...candidates('prflx', 'host')])).toBe('direct')
  })

  it('does not guess', () => {
    expect(routeOf([])).toBe('unknown')
    expect(routeOf([pair, ...candidates('host', 'host')])).toBe('unknown')
    expect(routeOf([{ ...pair, state: 'succeeded', nominated: true }])).toBe('unknown')
  })
})
