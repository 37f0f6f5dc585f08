/** Proves whom the Worker's links dial and when, and what they do with broken, slow and uninvited partners. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { SkeinError } from '../../../src/protocol/errors.ts'
import { DIAL_DEADLINE_MS, HIGH_WATER_BYTES, LOW_WATER_BYTES, UNASKED_GRACE_MS } from '../../../src/net/limits.ts'
import type { LinksMessage, SessionMessage } from '../../../src/net/linkMessages.ts'
import { PeerLinks } from '../../../src/net/peerLinks.ts'
import { sliceFrame } from '../../../src/net/slicing.ts'
import { PROTOCOL_VERSION } from '../../../src/protocol/version.ts'

const LISTENING = `skein-listening ${PROTOCOL_VERSION}`

/** The page's end of the port, played by the test; channels are forwarded ones, so everything passes here. */
class Page {
  readonly said: LinksMessage[] = []
  onmessage: ((event: { data: SessionMessage }) => void) | null = null
  postMessage(message: LinksMessage) {
    this.said.push(message)
  }
  tell(message: SessionMessage) {
    this.onmessage?.({ data: message })
  }
  of<T extends LinksMessage['type']>(type: T) {
    return this.said.filter((m): m is Extract<LinksMessage, { type: T }> => m.type === type)
  }
  /** The partner's link comes up and both ends say that they listen. */
  connect(linkId: string, partner: string, dialled = true) {
    this.tell({ type: 'link', linkId, partner, dialled, channel: null })
    this.tell({ type: 'forwardOpen', linkId })
    this.tell({ type: 'forwarded', linkId, data: LISTENING })
  }
  frame(linkId: string, frame: Uint8Array) {
    for (const slice of sliceFrame(1, frame)) this.tell({ type: 'forwarded', linkId, data: slice.buffer })
  }
}

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

const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => null,
    (caught: unknown) => (caught instanceof SkeinError ? caught.code : caught),
  )

describe('peer links', () => {
  it('dials the partners with a greater id and waits for the others', async () => {
    links.setPartners(['a', 'z', 'y'])
    expect(page.of('dial').map((m) => m.partner)).toEqual(['z', 'y'])
    const opened = codeOf(links.opened(60_000))
    page.connect('1', 'z')
    page.connect('2', 'y')
    expect(links.isOpen('a')).toBe(false)
    page.connect('3', 'a', false)
    expect(await opened).toBeNull()
    expect(page.of('established').map((m) => m.linkId)).toEqual(['1', '2', '3'])
  })

  it('says that it listens first when it was dialled, and only in answer when it dialled; once', () => {
    links.setPartners(['a', 'z'])
    page.tell({ type: 'link', linkId: '1', partner: 'z', dialled: true, channel: null })
    page.tell({ type: 'link', linkId: '2', partner: 'a', dialled: false, channel: null })
    for (const linkId of ['1', '2', '2']) page.tell({ type: 'forwardOpen', linkId })
    expect(page.of('forward')).toEqual([{ type: 'forward', linkId: '2', data: LISTENING }])
    page.tell({ type: 'forwarded', linkId: '1', data: LISTENING })
    expect(page.of('forward').at(-1)).toEqual({ type: 'forward', linkId: '1', data: LISTENING })
  })

  it('refuses a partner of another protocol version', () => {
    links.setPartners(['z'])
    page.tell({ type: 'link', linkId: '1', partner: 'z', dialled: true, channel: null })
    page.tell({ type: 'forwarded', linkId: '1', data: 'skein-listening 999' })
    expect(page.of('drop').map((m) => m.linkId)).toContain('1')
    expect(links.isOpen('z')).toBe(false)
  })

  it('redials with growing pauses while the partner is wanted, and not after', () => {
    links.setPartners(['z'])
    const times: number[] = []
    const start = performance.now()
    for (let i = 0; i < 6; i++) {
      const linkId = `try-${i}`
      while (page.of('dial').length <= i) vi.advanceTimersByTime(50)
      times.push(performance.now() - start)
      page.tell({ type: 'link', linkId, partner: 'z', dialled: true, channel: null })
      page.tell({ type: 'gone', linkId })
    }
    const pauses = times.slice(1).map((t, i) => t - times[i]!)
    pauses.forEach((pause, i) => expect(pause).toBeGreaterThanOrEqual(250 * 2 ** i))
    pauses.forEach((pause, i) => expect(pause).toBeLessThan(250 * 2 ** i + 200))
    links.setPartners([])
    vi.advanceTimersByTime(60_000)
    expect(page.of('dial')).toHaveLength(6)
    expect(lost).toEqual([])
  })

  it('gives a dial that leads nowhere up after its deadline and tries again', async () => {
    links.setPartners(['z'])
    page.tell({ type: 'link', linkId: '1', partner: 'z', dialled: true, channel: null })
    const opened = codeOf(links.opened(5_000))
    vi.advanceTimersByTime(5_100)
    expect(await opened).toBe('net.no_route')
    vi.advanceTimersByTime(DIAL_DEADLINE_MS)
    expect(page.of('drop').map((m) => m.linkId)).toContain('1')
    expect(page.of('dial')).toHaveLength(2)
  })

  it('does not dial while the broker is away, and says that this is why', async () => {
    page.tell({ type: 'broker', connected: false, error: { code: 'x', message: 'Refused.', remedy: '' } })
    links.setPartners(['z'])
    const opened = codeOf(links.opened(1_000))
    vi.advanceTimersByTime(1_100)
    expect(await opened).toBe('net.broker_unreachable')
    expect(page.of('dial')).toHaveLength(0)
    page.tell({ type: 'broker', connected: true, error: null })
    expect(page.of('dial')).toHaveLength(1)
  })

  it('tells a lost link, fails what waited in it, and dials again', async () => {
    links.setPartners(['z'])
    page.connect('1', 'z')
    const sending = codeOf(links.send('z', new Uint8Array(20_000_000)))
    page.tell({ type: 'gone', linkId: '1' })
    expect(await sending).toBe('net.link_lost')
    expect(await codeOf(links.send('z', new Uint8Array(1)))).toBe('net.link_lost')
    expect(lost).toEqual(['z'])
    vi.advanceTimersByTime(500)
    expect(page.of('dial')).toHaveLength(2)
  })

  it('lets a partner that dialled anew replace the link that it holds for dead', () => {
    links.setPartners(['a'])
    page.connect('1', 'a', false)
    page.connect('2', 'a', false)
    expect(lost).toEqual(['a'])
    expect(links.isOpen('a')).toBe(true)
    page.frame('1', new Uint8Array(100))
    page.frame('2', new Uint8Array(200))
    expect(frames).toEqual([['a', 200]])
  })

  it('keeps at most the high-water mark and one slice in the channel, and goes on when it drains', async () => {
    links.setPartners(['z'])
    page.connect('1', 'z')
    page.tell({ type: 'forwardTaken', linkId: '1', taken: LISTENING.length, buffered: 0 })
    const sending = links.send('z', new Uint8Array(10_000_000))
    const sent = () =>
      page.of('forward').reduce((sum, m) => sum + (typeof m.data === 'string' ? 0 : m.data.byteLength), 0)
    expect(sent()).toBeGreaterThanOrEqual(HIGH_WATER_BYTES)
    expect(sent()).toBeLessThan(HIGH_WATER_BYTES + 256 * 1024)
    const before = sent()
    page.tell({ type: 'forwardTaken', linkId: '1', taken: before, buffered: LOW_WATER_BYTES + 1 })
    expect(sent()).toBe(before)
    page.tell({ type: 'forwardTaken', linkId: '1', taken: 0, buffered: LOW_WATER_BYTES })
    expect(sent()).toBeGreaterThan(before)
    let taken = before
    while (taken < sent()) {
      const more = sent() - taken
      taken = sent()
      page.tell({ type: 'forwardTaken', linkId: '1', taken: more, buffered: 0 })
    }
    await sending
    expect(links.totals().upBytes).toBe(sent())
  })

  it('drops the frames of a node that is no partner, and its link after a grace', () => {
    page.connect('1', 'a', false)
    page.frame('1', new Uint8Array(100))
    expect(frames).toEqual([])
    vi.advanceTimersByTime(UNASKED_GRACE_MS - 1_000)
    // The server's word came late: the link is there already.
    links.setPartners(['a'])
    expect(links.isOpen('a')).toBe(true)
    page.frame('1', new Uint8Array(100))
    expect(frames).toEqual([])
    page.connect('2', 'b', false)
    vi.advanceTimersByTime(UNASKED_GRACE_MS + 200)
    expect(links.isOpen('b')).toBe(false)
    expect(links.isOpen('a')).toBe(true)
    expect(lost).toEqual([])
  })

  it('keeps links over a change of partners, so that a new generation need not dial', () => {
    links.setPartners(['z'])
    page.connect('1', 'z')
    links.setPartners([])
    vi.advanceTimersByTime(5_000)
    links.setPartners(['z'])
    vi.advanceTimersByTime(60_000)
    expect(page.of('dial')).toHaveLength(1)
    expect(links.isOpen('z')).toBe(true)
  })

  it('closes the link of a partner that sends nonsense', () => {
    links.setPartners(['z'])
    page.connect('1', 'z')
    page.tell({ type: 'forwarded', linkId: '1', data: new ArrayBuffer(40) })
    expect(lost).toEqual(['z'])
    expect(page.of('drop').map((m) => m.linkId)).toContain('1')
  })

  it('counts one relayed link as relayed', () => {
    links.setPartners(['y', 'z'])
    page.connect('1', 'y')
    page.connect('2', 'z')
    expect(links.totals().link).toBe('unknown')
    page.tell({ type: 'kind', linkId: '1', kind: 'direct' })
    expect(links.totals().link).toBe('direct')
    page.tell({ type: 'kind', linkId: '2', kind: 'relayed' })
    expect(links.totals().link).toBe('relayed')
  })

  it('fails whoever waits when it is closed', async () => {
    links.setPartners(['z'])
    const opened = codeOf(links.opened(1_000))
    links.close()
    expect(await opened).toBe('net.closed')
    expect(page.said.at(-1)).toEqual({ type: 'close' })
  })
})
