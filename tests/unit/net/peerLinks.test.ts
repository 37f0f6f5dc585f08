/** Proves whom the Worker's links dial and when, and what they do with broken, slow and idle ones. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { SkeinError } from '../../../src/protocol/errors.ts'
import {
  DIAL_DEADLINE_MS,
  FIRST_WINDOW_BYTES,
  IDLE_MS,
  MAX_STRANDS,
  MAX_STRANDS_WITH_NODE,
  MAX_WAITING_BYTES,
  QUIET_MS,
  ROUTE_DEADLINE_MS,
  SPARE_IDLE_MS,
  STALL_MS,
  STALLED_MS,
  STRANDS,
  STRIPING_RTT_MS,
  YIELD_MS,
} from '../../../src/net/limits.ts'
import { PeerLinks } from '../../../src/net/peerLinks.ts'
import { listening, Page } from './page.ts'

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

/** A channel that stays with the page is dropped twice: by its link, and by the links. */
const dropped = () => [...new Set(page.of('drop').map((m) => m.strandId))]
const dials = () => page.of('dial').map((m) => m.partner)

describe('peer links on hints', () => {
  it('dials at once who has a greater id, and the others when they have not dialled in time', () => {
    links.setPartners(['a', 'z', 'y', 'b'])
    expect(dials()).toEqual(['z', 'y'])
    page.connect('1', 'a', false)
    vi.advanceTimersByTime(YIELD_MS + 200)
    expect(dials()).toEqual(['z', 'y', 'b'])
    expect(links.isOpen('a')).toBe(true)
    expect(page.of('established').map((m) => m.strandId)).toEqual(['1'])
  })

  it('says that it listens first when it was dialled, and only in answer when it dialled; once', () => {
    links.setPartners(['a', 'z'])
    page.tell({ type: 'strand', strandId: '1', partner: 'z', dialled: true, channel: null })
    page.tell({ type: 'strand', strandId: '2', partner: 'a', dialled: false, channel: null })
    for (const strandId of ['1', '2', '2']) page.tell({ type: 'forwardOpen', strandId })
    const said = expect.stringMatching(/^skein-listening \d+ [0-9a-f]{16}$/) as string
    expect(page.of('forward')).toEqual([{ type: 'forward', strandId: '2', data: said }])
    page.tell({ type: 'forwarded', strandId: '1', data: listening() })
    expect(page.of('forward').at(-1)).toEqual({ type: 'forward', strandId: '1', data: said })
  })

  it('refuses a partner of another protocol version', () => {
    links.setPartners(['z'])
    page.tell({ type: 'strand', strandId: '1', partner: 'z', dialled: true, channel: null })
    page.tell({ type: 'forwarded', strandId: '1', data: 'skein-listening 999 0123abcd' })
    expect(dropped()).toContain('1')
    expect(links.isOpen('z')).toBe(false)
  })

  it('redials with growing pauses while the partner is hinted at, and not after', () => {
    links.setPartners(['z'])
    const times: number[] = []
    const start = performance.now()
    for (let i = 0; i < 6; i++) {
      const strandId = `try-${i}`
      while (page.of('dial').length <= i) vi.advanceTimersByTime(50)
      times.push(performance.now() - start)
      page.tell({ type: 'strand', strandId, partner: 'z', dialled: true, channel: null })
      page.tell({ type: 'gone', strandId })
    }
    const pauses = times.slice(1).map((t, i) => t - times[i]!)
    pauses.forEach((pause, i) => expect(pause).toBeGreaterThanOrEqual(250 * 2 ** i))
    pauses.forEach((pause, i) => expect(pause).toBeLessThan(250 * 2 ** i + 200))
    links.setPartners([])
    vi.advanceTimersByTime(60_000)
    expect(page.of('dial')).toHaveLength(6)
    expect(lost).toEqual([])
  })

  it('gives a dial that leads nowhere up after its deadline and tries again', () => {
    links.setPartners(['z'])
    page.tell({ type: 'strand', strandId: '1', partner: 'z', dialled: true, channel: null })
    vi.advanceTimersByTime(DIAL_DEADLINE_MS - 100)
    expect(page.of('dial')).toHaveLength(1)
    vi.advanceTimersByTime(1_000)
    expect(dropped()).toContain('1')
    expect(page.of('dial')).toHaveLength(2)
  })

  it('does not dial while the broker is away', () => {
    page.tell({ type: 'broker', connected: false, error: { code: 'x', message: 'Refused.', remedy: '' } })
    links.setPartners(['z'])
    vi.advanceTimersByTime(5_000)
    expect(dials()).toEqual([])
    page.tell({ type: 'broker', connected: true, error: null })
    expect(dials()).toEqual(['z'])
  })

  it('keeps an idle link that is hinted at, and closes it later when it is not', () => {
    links.setPartners(['z'])
    page.connect('1', 'z')
    page.drain('1')
    vi.advanceTimersByTime(3 * IDLE_MS)
    expect(links.isOpen('z')).toBe(true)
    links.setPartners([])
    expect(links.isOpen('z')).toBe(false)
    expect(lost).toEqual([])
    expect(dials()).toEqual(['z'])
  })
})

describe('peer links on demand', () => {
  it('dials whoever a frame is for, and sends what waited, in order', async () => {
    const sent = [links.send('z', new Uint8Array(10)), links.send('z', new Uint8Array(20))]
    expect(dials()).toEqual(['z'])
    page.connect('1', 'z')
    await Promise.all([...sent, links.send('z', new Uint8Array(30))])
    expect(page.frames('1')).toEqual([10, 20, 30])
    expect(dials()).toEqual(['z'])
  })

  it('lets the smaller id dial first, but not for long', () => {
    void codeOf(links.send('a', new Uint8Array(10)))
    expect(dials()).toEqual([])
    vi.advanceTimersByTime(YIELD_MS + 200)
    expect(dials()).toEqual(['a'])
  })

  it('sends over a link that the other dialled meanwhile', async () => {
    const sent = links.send('a', new Uint8Array(10))
    page.connect('1', 'a', false)
    await sent
    expect(page.frames('1')).toEqual([10])
    vi.advanceTimersByTime(2 * YIELD_MS)
    expect(dials()).toEqual([])
  })

  it('gives a frame up when no link comes in time, by the reason', async () => {
    const routeless = codeOf(links.send('z', new Uint8Array(10)))
    vi.advanceTimersByTime(ROUTE_DEADLINE_MS + 200)
    expect(await routeless).toBe('net.no_route')
    page.tell({ type: 'broker', connected: false, error: { code: 'x', message: 'Refused.', remedy: '' } })
    const brokerless = codeOf(links.send('z', new Uint8Array(10)))
    vi.advanceTimersByTime(ROUTE_DEADLINE_MS + 200)
    expect(await brokerless).toBe('net.broker_unreachable')
    // Nothing waits any more: nobody is dialled.
    page.tell({ type: 'broker', connected: true, error: null })
    vi.advanceTimersByTime(60_000)
    expect(dials()).toEqual(['z'])
  })

  it('bounds what waits for links', async () => {
    const half = new Uint8Array(Math.floor(MAX_WAITING_BYTES / 2))
    const waiting = [codeOf(links.send('y', half)), codeOf(links.send('z', half))]
    expect(await codeOf(links.send('x', new Uint8Array(2)))).toBe('net.queue_full')
    vi.advanceTimersByTime(ROUTE_DEADLINE_MS + 200)
    await Promise.all(waiting)
    const freed = codeOf(links.send('x', new Uint8Array(2)))
    page.connect('1', 'x')
    expect(await freed).toBeNull()
  })

  it('hands on the frames of whoever connected', () => {
    page.connect('1', 'a', false)
    page.frame('1', new Uint8Array(100))
    expect(frames).toEqual([['a', 100]])
  })

  it('closes a link that nobody uses or hints at, without a word, and makes it anew', async () => {
    page.connect('1', 'z')
    const use = links.send('z', new Uint8Array(10))
    await use
    page.drain('1')
    vi.advanceTimersByTime(IDLE_MS - 1_000)
    page.frame('1', new Uint8Array(5))
    vi.advanceTimersByTime(IDLE_MS - 1_000)
    expect(links.isOpen('z')).toBe(true)
    vi.advanceTimersByTime(2_000)
    expect(links.isOpen('z')).toBe(false)
    expect(lost).toEqual([])
    void codeOf(links.send('z', new Uint8Array(10)))
    expect(dials()).toEqual(['z'])
  })

  it('tells no loss when the other end closes what was quiet for long', () => {
    page.connect('1', 'z')
    page.connect('2', 'y')
    page.drain('1')
    vi.advanceTimersByTime(QUIET_MS - 5_000)
    page.frame('2', new Uint8Array(5))
    vi.advanceTimersByTime(6_000)
    page.tell({ type: 'gone', strandId: '1' })
    page.tell({ type: 'gone', strandId: '2' })
    expect(lost).toEqual(['y'])
  })

  it('holds so many links, and lets the one that was idle for longest go for a new one', () => {
    for (let i = 0; i < MAX_STRANDS; i++) page.connect(`l${i}`, `z${i}`, false)
    page.connect('early', 'early', false)
    expect(links.isOpen('early')).toBe(false)
    expect(dropped()).toEqual(['early'])
    links.setPartners(['z0'])
    vi.advanceTimersByTime(SPARE_IDLE_MS + 100)
    for (let i = 2; i < MAX_STRANDS; i++) page.frame(`l${i}`, new Uint8Array(1))
    vi.advanceTimersByTime(SPARE_IDLE_MS + 100)
    page.connect('late', 'late', false)
    expect(['z0', 'z1', 'z2', 'late'].map((id) => links.isOpen(id))).toEqual([true, false, true, true])
  })

  it('holds only so many links with one node', () => {
    for (let i = 0; i <= MAX_STRANDS_WITH_NODE; i++) {
      page.tell({ type: 'strand', strandId: `l${i}`, partner: 'a', dialled: false, channel: null })
    }
    expect(dropped()).toEqual([`l${MAX_STRANDS_WITH_NODE}`])
  })
})

describe('an open link', () => {
  it('is told when it is lost, fails what was in it, and is dialled again', async () => {
    links.setPartners(['z'])
    page.connect('1', 'z')
    const sending = codeOf(links.send('z', new Uint8Array(20_000_000)))
    page.tell({ type: 'gone', strandId: '1' })
    expect(await sending).toBe('net.link_lost')
    expect(lost).toEqual(['z'])
    vi.advanceTimersByTime(500)
    expect(page.of('dial')).toHaveLength(2)
  })

  it('is replaced when the partner names another one: it has lost this one', () => {
    links.setPartners(['a'])
    page.connect('1', 'a', false)
    page.connect('2', 'a', false, '4567cdef')
    expect(lost).toEqual(['a'])
    expect(dropped()).toEqual(['1'])
    expect(links.isOpen('a')).toBe(true)
    page.frame('1', new Uint8Array(100))
    page.frame('2', new Uint8Array(200))
    expect(frames).toEqual([['a', 200]])
  })

  it('puts only so much under way before it is acknowledged, and goes on when it is', async () => {
    links.setPartners(['z'])
    page.connect('1', 'z')
    const sending = links.send('z', new Uint8Array(10_000_000))
    const sent = () => page.sentBytes('1')
    expect(sent()).toBeGreaterThanOrEqual(FIRST_WINDOW_BYTES)
    expect(sent()).toBeLessThan(FIRST_WINDOW_BYTES + 64 * 1024)
    for (let before = 0; before < sent();) {
      before = sent()
      vi.advanceTimersByTime(10)
      page.drain('1')
    }
    await sending
    expect(sent()).toBeGreaterThan(10_000_000)
    expect(links.totals().upBytes).toBe(sent())
  })

  it('seeks another connection when one stalls, and gives that what the stalled one held up', async () => {
    page.connect('1', 'z')
    await links.send('z', new Uint8Array(10))
    vi.advanceTimersByTime(STALL_MS - 500)
    expect(dials()).toEqual([])
    vi.advanceTimersByTime(1_000)
    expect(dials()).toEqual(['z'])
    page.connect('2', 'z')
    expect(page.frames('2')).toEqual([10])
    expect(dropped()).toEqual(['1'])
    expect(lost).toEqual([])
    // Nor is it waited for for ever where no other opens.
    vi.advanceTimersByTime(STALLED_MS + 500)
    expect(lost).toEqual(['z'])
  })

  it('is closed when the partner acknowledges what was not sent', async () => {
    page.connect('1', 'z')
    await links.send('z', new Uint8Array(10))
    page.tell({ type: 'forwarded', strandId: '1', data: new Uint32Array([2]).buffer })
    expect(lost).toEqual(['z'])
  })

  it('sends what is urgent before what waits already, and each priority in its order', async () => {
    page.connect('1', 'z')
    const fill = links.send('z', new Uint8Array(2 * FIRST_WINDOW_BYTES), 'checkpoint')
    const sent = [
      links.send('z', new Uint8Array(3), 'checkpoint'),
      links.send('z', new Uint8Array(2), 'merge'),
      links.send('z', new Uint8Array(1)),
      links.send('z', new Uint8Array(11)),
    ]
    const before = page.frames('1').length
    for (let i = 0; i < 20; i++) {
      vi.advanceTimersByTime(10)
      page.drain('1')
    }
    await Promise.all([fill, ...sent])
    const after = page.frames('1').slice(before)
    expect(after.slice(0, 3)).toEqual([1, 11, 2])
    expect(after.at(-1)).toBe(3)
  })

  it('outlives a change of hints, so that a new generation need not dial', () => {
    links.setPartners(['z'])
    page.connect('1', 'z')
    links.setPartners([])
    vi.advanceTimersByTime(5_000)
    links.setPartners(['z'])
    vi.advanceTimersByTime(60_000)
    expect(page.of('dial')).toHaveLength(1)
    expect(links.isOpen('z')).toBe(true)
  })

  it('is closed when the partner sends nonsense', () => {
    links.setPartners(['z'])
    page.connect('1', 'z')
    page.tell({ type: 'forwarded', strandId: '1', data: new ArrayBuffer(40) })
    expect(lost).toEqual(['z'])
    expect(dropped()).toContain('1')
  })

  it('counts one relayed link as relayed', () => {
    links.setPartners(['y', 'z'])
    page.connect('1', 'y')
    page.connect('2', 'z')
    expect(links.totals().link).toBe('unknown')
    page.tell({ type: 'kind', strandId: '1', kind: 'direct' })
    expect(links.totals().link).toBe('direct')
    page.tell({ type: 'kind', strandId: '2', kind: 'relayed' })
    expect(links.totals().link).toBe('relayed')
  })

  it('gets more connections over a long line, opened by the smaller id alone', async () => {
    const over = async (partner: string, rttMs: number) => {
      page.connect(`${partner} 0`, partner, false)
      await links.send(partner, new Uint8Array(10))
      vi.advanceTimersByTime(rttMs)
      page.drain(`${partner} 0`)
      vi.advanceTimersByTime(200)
    }
    await over('a', 2 * STRIPING_RTT_MS)
    await over('y', STRIPING_RTT_MS - 1)
    expect(dials()).toEqual([])
    await over('z', 2 * STRIPING_RTT_MS)
    for (let i = 1; i < STRANDS; i++) {
      expect(dials()).toEqual(Array(i).fill('z'))
      page.connect(`z ${i}`, 'z')
      vi.advanceTimersByTime(200)
    }
    vi.advanceTimersByTime(20_000)
    expect(dials()).toHaveLength(STRANDS - 1)
    // A small frame goes over all of them.
    await links.send('z', new Uint8Array(60_000))
    for (let i = 0; i < STRANDS; i++) expect(page.sentBytes(`z ${i}`)).toBeGreaterThan(60_000 / (STRANDS + 1))
  })

  it('goes with all others when this node becomes another one', () => {
    page.connect('1', 'z')
    links.openPeer({ nodeId: 'n', token: 't', iceServers: [] })
    expect(links.isOpen('z')).toBe(false)
    expect(lost).toEqual(['z'])
  })
})

it('fails whatever waits when the links are closed', async () => {
  const waiting = codeOf(links.send('z', new Uint8Array(10)))
  links.close()
  expect(await waiting).toBe('net.closed')
  expect(await codeOf(links.send('z', new Uint8Array(10)))).toBe('net.closed')
  expect(page.said.at(-1)).toEqual({ type: 'close' })
})
