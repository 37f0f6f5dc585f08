/** Proves when the Worker's links come to the server's relay, and that they leave it for a shorter way. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { RELAY_AFTER_MS, SHORTER_WAY_MS } from '../../../src/net/limits.ts'
import { PeerLinks } from '../../../src/net/peerLinks.ts'
import { RELAY_CLOSE } from '../../../src/protocol/signalling.ts'
import type { SkeinError } from '../../../src/protocol/errors.ts'
import { listening, Page } from './page.ts'

/** The relay's socket, played by a test. */
class PlayedSocket {
  static readonly OPEN = 1
  static all: PlayedSocket[] = []
  readyState = 1
  binaryType = ''
  onopen = () => {}
  onmessage: (event: { data: unknown }) => void = () => {}
  onclose: (event: { code: number; reason: string }) => void = () => {}
  readonly sent: unknown[] = []
  readonly url: URL
  constructor(url: URL) {
    this.url = url
    PlayedSocket.all.push(this)
  }
  send(data: unknown) {
    this.sent.push(data)
  }
  close() {
    this.readyState = 3
  }
}

let page: Page
let links: PeerLinks
let lost: string[]

beforeEach(() => {
  vi.useFakeTimers()
  vi.stubGlobal('WebSocket', PlayedSocket)
  PlayedSocket.all = []
  page = new Page()
  links = new PeerLinks(page as unknown as MessagePort)
  lost = []
  links.onLost((nodeId) => lost.push(nodeId))
  links.openPeer({ nodeId: 'm', token: 't', iceServers: [], relay: 'https://skein.test' })
  page.tell({ type: 'broker', connected: true, error: null })
})
afterEach(() => {
  links.close()
  vi.useRealTimers()
  vi.unstubAllGlobals()
})

const opening = (partner: string, dialled: boolean) =>
  page.tell({ type: 'strand', strandId: `to ${partner}`, partner, dialled, channel: null })

describe('a connection that does not open', () => {
  it.each([
    ['that we dialled', 'z', true],
    ['that the other end dialled', 'a', false],
  ])('%s brings us to the relay after a while, where a frame is passed on', async (_, partner, dialled) => {
    const sent = links.send(partner, new Uint8Array(10))
    opening(partner, dialled)
    vi.advanceTimersByTime(RELAY_AFTER_MS - 200)
    expect(PlayedSocket.all).toHaveLength(0)
    vi.advanceTimersByTime(400)
    const [socket] = PlayedSocket.all
    expect(`${socket!.url}`).toBe(`wss://skein.test/relay?id=m&token=t&to=${partner}`)
    socket!.onopen()
    socket!.onmessage({ data: listening() })
    await sent
    expect(links.wayTo(partner)).toBe('server')
    expect(links.totals().link).toBe('server')
    // The handshake's word and the frame.
    expect(socket!.sent).toHaveLength(2)
  })

  it('is left for the way that opens after all, and nothing is lost over it', async () => {
    const sent = links.send('z', new Uint8Array(10))
    opening('z', true)
    vi.advanceTimersByTime(RELAY_AFTER_MS + 200)
    const [socket] = PlayedSocket.all
    socket!.onmessage({ data: listening() })
    await sent
    // It is never acknowledged there.
    page.connect('direct', 'z')
    expect(page.frames('direct')).toEqual([10])
    expect(socket!.readyState).toBe(3)
    expect(lost).toEqual([])
    expect(links.wayTo('z')).toBe('unknown')
  })

  it('is tried again every minute from the relay, by one end', () => {
    opening('z', true)
    vi.advanceTimersByTime(RELAY_AFTER_MS + 200)
    PlayedSocket.all[0]!.onmessage({ data: listening() })
    page.tell({ type: 'gone', strandId: 'to z' })
    const before = page.of('dial').length
    vi.advanceTimersByTime(SHORTER_WAY_MS / 2)
    links.setPartners(['z'])
    vi.advanceTimersByTime(SHORTER_WAY_MS / 2 - 5_000)
    expect(page.of('dial')).toHaveLength(before)
    vi.advanceTimersByTime(6_000)
    expect(page.of('dial')).toHaveLength(before + 1)
  })

  it('ends in net.relay_cap where the server carries no more, and the relay is left alone for a while', async () => {
    const code = links.send('z', new Uint8Array(10)).then(
      () => null,
      (caught: unknown) => (caught as SkeinError).code,
    )
    opening('z', true)
    vi.advanceTimersByTime(RELAY_AFTER_MS + 200)
    PlayedSocket.all[0]!.onclose({ code: RELAY_CLOSE.spent, reason: 'Used up.' })
    vi.advanceTimersByTime(3_000)
    expect(PlayedSocket.all).toHaveLength(1)
    vi.advanceTimersByTime(10_000)
    expect(await code).toBe('net.relay_cap')
  })
})
