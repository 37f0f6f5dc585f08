/** Proves that the box is what it says: delay, rate, queue and loss to within little, and NATs that map ports as they should. */
import path from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { resultInside } from './box/enter.ts'
import { boxOrSkip } from './boxOrSkip.ts'
import type { Exactness } from './programs/exactness.ts'

describe.skipIf(boxOrSkip())('the box', () => {
  let seen: Exactness

  beforeAll(async () => {
    seen = await resultInside<Exactness>(path.join(import.meta.dirname, 'programs', 'exactness.ts'))
  })

  it('delays a packet by the round trip, and not by less', () => {
    for (const answer of seen.answers.cone!) expect(answer!.ms).toBeGreaterThanOrEqual(50)
    expect(Math.min(...seen.answers.cone!.map((answer) => answer!.ms))).toBeLessThan(55)
  })

  it('drops what the line and its queue do not take, and loses the share that it should', () => {
    const { sent, arrived, dropped, lost, mbit } = seen.flood
    expect(arrived + dropped + lost).toBeLessThanOrEqual(sent + 5)
    expect(arrived + dropped + lost).toBeGreaterThanOrEqual(sent)
    expect(dropped).toBeGreaterThan(sent / 10)
    expect(lost).toBeGreaterThan(sent / 100)
    expect(lost).toBeLessThan(sent / 10)
    // At most the rate less the loss.
    expect(mbit).toBeLessThan(20)
    expect(mbit).toBeGreaterThan(14)
  })

  it('keeps one port behind a cone, takes another for each destination behind a symmetric NAT, blocks UDP', () => {
    const ports = (name: string) => new Set(seen.answers[name]!.map((answer) => answer!.port))
    expect(ports('cone').size).toBe(1)
    expect(ports('symmetric').size).toBe(2)
    for (const name of ['cone', 'symmetric']) {
      for (const answer of seen.answers[name]!) expect(answer!.address).toBe(seen.addresses[name])
    }
    expect(seen.answers.blocked).toEqual([null, null])
  })

  it('carries IPv6 where a home has it', () => {
    expect(seen.ipv6).toBe(true)
  })
})
