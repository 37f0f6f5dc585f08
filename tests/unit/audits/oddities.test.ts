/** Proves the cheap checks and the attribution of losses: they draw audits for sure, and convict nobody. */
import { describe, expect, it } from 'vitest'
import { standingOf } from '../../../server/audits/audits.ts'
import { DEFAULT_POLICY } from '../../../server/audits/policy.ts'
import type { Glance } from '../../../server/audits/types.ts'
import { noise } from '../../kernels/gpu.ts'
import { claim, Court, device, party, spared } from './court.ts'

let digests = 0
const glance = (more: Partial<Glance> = {}): Glance => {
  return { kind: 'activation', finite: true, rms: 1, digest: `own ${++digests}`, ...more }
}

/** A stage that has seen forty claims of about the same norm. */
function seasoned(): Court {
  const court = new Court()
  for (const [step, x] of noise(40, 1, 0.05).entries())
    court.claimed(claim({ step, claimant: party(7), glances: [glance({ rms: 1 + x })] }), spared)
  return court
}

const auditedFor = (court: Court, glances: Glance[], step = 50) =>
  court.claimed(claim({ step, glances }), spared).some(({ type }) => type === 'recompute')

describe('cheap checks', () => {
  it('leave alone what is as always, and drifts slowly', () => {
    const court = seasoned()
    for (let i = 0; i < 300; i++) expect(auditedFor(court, [glance({ rms: 1.005 ** i })], 50 + i)).toBe(false)
    expect(court.said).toEqual([])
  })

  it.each([
    ['is not finite', { finite: false, rms: NaN }],
    ['is all zero', { rms: 0 }],
    ['is far too large', { rms: 3 }],
    ['is far too small', { rms: 0.3 }],
  ])('audit for sure what %s, and the next claims too', (_, more) => {
    const court = seasoned()
    expect(auditedFor(court, [glance(), glance(more)])).toBe(true)
    for (let i = 1; i < DEFAULT_POLICY.watch; i++) expect(auditedFor(court, [glance()], 50 + i)).toBe(true)
    expect(auditedFor(court, [glance()], 80)).toBe(false)
    expect(court.of('convict')).toEqual([])
  })

  it('audit for sure bytes that were sent in another step', () => {
    const court = seasoned()
    expect(auditedFor(court, [glance({ digest: 'mine' })], 51)).toBe(false)
    // A lease that moved is computed twice in one step.
    expect(auditedFor(court, [glance({ digest: 'mine' })], 51)).toBe(false)
    expect(auditedFor(court, [glance({ digest: 'mine' })], 52)).toBe(true)
  })

  it('remember so many digests and no more', () => {
    const court = new Court({ digestMemory: 10 })
    for (let step = 0; step < 50; step++) court.claimed(claim({ step }), spared)
    expect(court.state.digests.get('run 1')!.size).toBe(10)
  })
})

describe('the attribution of losses', () => {
  const devices = Array.from({ length: 30 }, (_, i) => i)
  /** Routes of three of thirty devices, of which `harmful` makes every microbatch it touches worse. */
  function score(court: Court, harmful: number | null, steps: number) {
    for (let step = 0; step < steps; step++) {
      const order = devices.toSorted((a, b) => noise(1, step * 64 + a)[0]! - noise(1, step * 64 + b)[0]!)
      const losses = Array.from({ length: 10 }, (_, route) => {
        const on = order.slice(3 * route, 3 * route + 3)
        const loss = 2 + 0.3 * noise(1, step * 100 + route)[0]! + (harmful !== null && on.includes(harmful) ? 0.3 : 0)
        return { devices: on.map(device), loss }
      })
      court.tell({ type: 'scored', run: 'run', losses })
    }
  }
  const watched = (court: Court) => devices.filter((n) => standingOf(court.state, device(n)).watched > 0)

  it('watches whoever makes its routes worse, and convicts nobody', () => {
    const court = new Court()
    score(court, 11, 120)
    expect(watched(court)).toEqual([11])
    const told = new Set(court.said.map((command) => JSON.stringify(command)))
    expect([...told]).toEqual([JSON.stringify({ type: 'watched', device: device(11) })])
  })

  it('watches nobody where nobody does', () => {
    const court = new Court()
    score(court, null, 120)
    expect(watched(court)).toEqual([])
  })
})
