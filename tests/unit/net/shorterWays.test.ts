/** Proves that a link which ICE took through TURN is bettered: dialled directly soon, then ever less often, and nothing lost. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import {
  CONFIRMED_MS,
  DIRECT_AFTER_MS,
  DIRECT_RETRY_FIRST_MS,
  DIRECT_RETRY_LONGEST_MS,
  STRIPING_RTT_MS,
} from '../../../src/net/limits.ts'
import { PeerLinks } from '../../../src/net/peerLinks.ts'
import { ShorterWays } from '../../../src/net/shorterWays.ts'
import { Page } from './page.ts'

/** Longer than between two looks at the links. */
const SWEEP_MS = 150

let page: Page
let links: PeerLinks
let lost: string[]

beforeEach(() => {
  vi.useFakeTimers()
  page = new Page()
  links = new PeerLinks(page as unknown as MessagePort)
  lost = []
  links.onLost((nodeId) => lost.push(nodeId))
  links.openPeer({ nodeId: 'm', token: 't', iceServers: [] })
  page.tell({ type: 'broker', connected: true, error: null })
})
afterEach(() => {
  links.close()
  vi.useRealTimers()
})

const dials = () => page.of('dial').map(({ direct }) => direct)
const dropped = () => [...new Set(page.of('drop').map(({ strandId }) => strandId))]
const open = (strandId: string, partner: string, kind: 'relayed' | 'direct') => {
  page.connect(strandId, partner)
  page.tell({ type: 'kind', strandId, kind })
}

describe('a link through TURN', () => {
  it('is dialled directly after a while, and again ever less often while that does not open', () => {
    links.setPartners(['z'])
    expect(dials()).toEqual([false])
    open('turn', 'z', 'relayed')
    vi.advanceTimersByTime(DIRECT_AFTER_MS - 500)
    expect(dials()).toEqual([false])
    vi.advanceTimersByTime(1_000)
    expect(dials()).toEqual([false, true])
    const tried = [performance.now()]
    for (let second = 0; second < 160; second++) {
      const before = dials().length
      vi.advanceTimersByTime(500)
      if (dials().length === before) continue
      tried.push(performance.now())
      page.tell({ type: 'strand', strandId: `vain ${second}`, partner: 'z', dialled: true, channel: null })
      vi.advanceTimersByTime(500)
      page.tell({ type: 'gone', strandId: `vain ${second}` })
    }
    const pauses = tried.slice(1).map((at, i) => at - tried[i]!)
    expect(pauses).toHaveLength(2)
    for (const [i, pause] of [DIRECT_RETRY_FIRST_MS, 2 * DIRECT_RETRY_FIRST_MS].entries()) {
      expect(Math.abs(pauses[i]! - pause)).toBeLessThan(1_500)
    }
    expect(dials().slice(1)).not.toContain(false)
    expect(links.isOpen('z')).toBe(true)
    expect(lost).toEqual([])
  })

  it('is left for the direct way once that is known to be one, and what was under way goes over it', async () => {
    const sent = links.send('z', new Uint8Array(10))
    open('turn', 'z', 'relayed')
    await sent
    // The other end dialled.
    page.connect('direct', 'z', false)
    vi.advanceTimersByTime(SWEEP_MS)
    // It may be another one through TURN for all we know.
    expect(dropped()).toEqual([])
    page.tell({ type: 'kind', strandId: 'direct', kind: 'direct' })
    vi.advanceTimersByTime(SWEEP_MS)
    expect(dropped()).toEqual(['turn'])
    // Never acknowledged on the other.
    expect(page.frames('direct')).toEqual([10])
    expect(links.wayTo('z')).toBe('direct')
    expect(lost).toEqual([])
    vi.advanceTimersByTime(DIRECT_AFTER_MS + 1_000)
    expect(dials().filter(Boolean)).toEqual([])
  })

  it.each([
    ['is heard on that', 2 * SWEEP_MS, true],
    ['must have it too', CONFIRMED_MS - SWEEP_MS, false],
  ])(
    'is kept by the end that dialled the direct way until the other one %s: it might lose its last',
    (_, ms, heard) => {
      open('turn', 'z', 'relayed')
      open('direct', 'z', 'direct')
      vi.advanceTimersByTime(ms)
      expect(dropped()).toEqual([])
      if (heard) page.frame('direct', new Uint8Array(10))
      vi.advanceTimersByTime(2 * SWEEP_MS)
      expect(dropped()).toEqual(['turn'])
      expect(lost).toEqual([])
    },
  )

  it('is left to the smaller id to better', () => {
    links.setPartners(['a'])
    open('turn', 'a', 'relayed')
    vi.advanceTimersByTime(3 * DIRECT_AFTER_MS)
    expect(dials()).toEqual([])
  })

  it('is not sought to be bettered once ICE has found the direct way by itself', () => {
    links.setPartners(['z'])
    open('turn', 'z', 'relayed')
    vi.advanceTimersByTime(DIRECT_AFTER_MS / 2)
    page.tell({ type: 'kind', strandId: 'turn', kind: 'direct' })
    vi.advanceTimersByTime(DIRECT_AFTER_MS)
    expect(dials()).toEqual([false])
  })
})

describe('a direct link over a long line', () => {
  it('gets its further connections directly too', () => {
    links.setPartners(['z'])
    open('1', 'z', 'direct')
    void links.send('z', new Uint8Array(10))
    vi.advanceTimersByTime(10 * STRIPING_RTT_MS)
    page.drain('1')
    vi.advanceTimersByTime(500)
    expect(dials()).toEqual([false, true])
  })
})

describe('the search for a direct way', () => {
  it('pauses longer after each try, up to a limit, and begins anew once it was forgotten', () => {
    const ways = new ShorterWays()
    let now = 0
    const pauses: number[] = []
    expect(ways.isDue('z', 'relayed', now)).toBe(false)
    for (let since = now; pauses.length < 12; now += 1_000) {
      if (!ways.isDue('z', 'relayed', now)) continue
      pauses.push(now - since)
      since = now
      ways.tried('z', now)
    }
    expect(pauses.slice(0, 4)).toEqual([DIRECT_AFTER_MS, ...[1, 2, 4].map((n) => n * DIRECT_RETRY_FIRST_MS)])
    expect(pauses.at(-1)).toBe(DIRECT_RETRY_LONGEST_MS)
    expect(ways.isDue('z', 'direct', now)).toBe(false)
    expect(ways.isDue('z', 'relayed', now)).toBe(false)
    expect(ways.isDue('z', 'relayed', now + DIRECT_AFTER_MS)).toBe(true)
  })
})
