/** Proves that two nodes that dial each other at once lose nothing over it, and make one link of both. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { DIAL_DEADLINE_MS } from '../../../src/net/limits.ts'
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
const dropped = () => [...new Set(page.of('drop').map((m) => m.strandId))]
const dials = () => page.of('dial').map((m) => m.partner)

describe('two dials that cross', () => {
  it.each([
    ['ours first', true],
    ['the other’s first', false],
  ])('make one link of two connections, %s, and nothing is lost', async (_, oursFirst) => {
    const waited = links.send('z', new Uint8Array(10))
    const ours = () => page.connect('ours', 'z', true)
    const theirs = () => page.connect('theirs', 'z', false)
    if (oursFirst) ours()
    else theirs()
    await waited
    expect(page.frames(oursFirst ? 'ours' : 'theirs')).toEqual([10])
    if (oursFirst) theirs()
    else ours()
    page.frame('ours', new Uint8Array(7))
    page.frame('theirs', new Uint8Array(8))
    expect(frames).toEqual([
      ['z', 7],
      ['z', 8],
    ])
    for (const strandId of ['ours', 'theirs']) page.drain(strandId)
    vi.advanceTimersByTime(DIAL_DEADLINE_MS + 1_000)
    expect(dropped()).toEqual([])
    expect(lost).toEqual([])
  })

  it('leaves the other connection to send by when one breaks: what was under way goes over it, and nothing is lost', async () => {
    page.connect('1', 'z', true)
    await links.send('z', new Uint8Array(10))
    page.connect('2', 'z', false)
    expect(page.frames('2')).toEqual([])
    page.tell({ type: 'gone', strandId: '1' })
    expect(page.frames('2')).toEqual([10])
    await links.send('z', new Uint8Array(20))
    expect(page.frames('2')).toEqual([10, 20])
    expect(lost).toEqual([])
    expect(dials()).toEqual([])
    page.tell({ type: 'gone', strandId: '2' })
    expect(lost).toEqual(['z'])
  })
})
