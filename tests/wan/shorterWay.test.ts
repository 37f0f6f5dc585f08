/** Proves that a link which began through TURN comes to a direct way by itself, be it idle or amid its frames, and loses none. */
import path from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { resultInside } from './box/enter.ts'
import { boxOrSkip } from './boxOrSkip.ts'
import type { ShorterWays } from './programs/shorterWay.ts'

describe.skipIf(boxOrSkip())('two homes that reach each other later than by TURN', () => {
  let seen: ShorterWays

  beforeAll(async () => {
    seen = await resultInside<ShorterWays>(path.join(import.meta.dirname, 'programs', 'shorterWay.ts'))
    if (!seen) console.warn('\n  SKIPPED: there is no coturn here (apt-get install coturn).\n')
  })

  it.each([
    ['agents, idle', 'agents'],
    ['a browser and an agent, idle', 'browser'],
    ['agents, amid their frames', 'frames'],
  ])('%s', (_, name) => {
    if (!seen) return
    const link = seen.find((one) => one.name === name)!
    expect(link.before).toEqual(['relayed', 'relayed'])
    expect(link.after).toEqual(['direct', 'direct'])
    expect(link.directMs).not.toBeNull()
    const sizes = Array.from({ length: link.sent }, (__, frame) => 20_000 + frame)
    expect(link.sent > 0).toBe(name === 'frames')
    expect(link.refused).toEqual([])
    for (const arrived of link.arrived) expect(arrived.toSorted((x, y) => x - y)).toEqual(sizes)
    expect(link.lost).toEqual([])
  })
})
