/** Proves that two nodes that dial each other at once lose nothing over it, and end with one link. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { DIAL_DEADLINE_MS, SPARE_IDLE_MS, YIELD_MS } from '../../../src/net/limits.ts'
import { PeerLinks } from '../../../src/net/peerLinks.ts'
import { Page } from './page.ts'

let page: Page
let links: PeerLinks
let frames: [string, number][]
let lost: string[]

beforeEach(() => {
  vi.useFakeTimers()
  page = new Page()
  links = new PeerLinks(page as unknown as MessagePort)
  frames = []
  lost = []
  links.onFrame((from, bytes) => frames.push([from, bytes.byteLength]))
  links.onLost((nodeId) => lost.push(nodeId))
  links.openPeer({ nodeId: 'm', token: 't', iceServers: [] })
  page.tell({ type: 'broker', connected: true, error: null })
})
afterEach(() => {
  links.close()
  vi.useRealTimers()
})

/** A channel that stays with the page is dropped twice: by its link, and by the links. */
const dropped = () => [...new Set(page.of('drop').map((m) => m.linkId))]
const dials = () => page.of('dial').map((m) => m.partner)

describe('two dials that cross', () => {
  it.each([
    ['the smaller id’s first', 'z', true],
    ['the greater id’s first', 'z', false],
    ['the smaller id’s first, seen from the greater', 'a', true],
    ['the greater id’s first, seen from the greater', 'a', false],
  ])('both stand, %s; frames go by the smaller id’s, and none is lost', async (_, partner, smallerFirst) => {
    const weAreSmaller = partner === 'z'
    const waited = links.send(partner, new Uint8Array(10))
    vi.advanceTimersByTime(YIELD_MS + 200)
    const up = { smaller: () => page.connect('smaller', partner, weAreSmaller), greater: () => page.connect('greater', partner, !weAreSmaller) } // prettier-ignore
    const [first, second] = smallerFirst ? (['smaller', 'greater'] as const) : (['greater', 'smaller'] as const)
    up[first]()
    await waited
    expect(page.frames(first)).toEqual([10])
    up[second]()
    expect(lost).toEqual([])
    await links.send(partner, new Uint8Array(20))
    expect(page.frames('smaller').at(-1)).toBe(20)
    // What the other end put into its link before it knew comes all the same.
    page.frame('greater', new Uint8Array(7))
    page.frame('smaller', new Uint8Array(8))
    expect(frames).toEqual([
      [partner, 7],
      [partner, 8],
    ])
    page.drain('smaller')
    page.drain('greater')
    vi.advanceTimersByTime(SPARE_IDLE_MS + 200)
    expect(dropped()).toEqual(['greater'])
    expect(links.isOpen(partner)).toBe(true)
    expect(lost).toEqual([])
  })

  it('leaves the other one to send by when one breaks', async () => {
    page.connect('1', 'z', true)
    page.connect('2', 'z', false)
    page.tell({ type: 'gone', linkId: '1' })
    expect(lost).toEqual(['z'])
    await links.send('z', new Uint8Array(10))
    expect(page.frames('2')).toEqual([10])
    expect(dials()).toEqual([])
  })

  it('is not what a dial long after the other is: that one’s end held the older link for dead', () => {
    page.connect('1', 'z', true)
    vi.advanceTimersByTime(DIAL_DEADLINE_MS + 100)
    page.connect('2', 'z', false)
    expect(lost).toEqual(['z'])
    expect(dropped()).toEqual(['1'])
    expect(links.isOpen('z')).toBe(true)
  })
})
