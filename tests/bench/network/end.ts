/** Owns what one end of a measured link does: it sends in bulk or message by message, and times what arrives. */
import { PeerLinks, type LinkTotals } from '../../../src/net/peerLinks.ts'
import { toErrorBody } from '../../../src/protocol/errors.ts'
import type { PeerIdentity } from '../../../src/net/linkMessages.ts'

const BULK = 0
const TIMED = 1
const CLOCK = 2
const CLOCK_ANSWER = 3
const BULK_FRAME_BYTES = 1024 * 1024
/** Bulk frames that are on their way into the link at once. */
const BULK_AT_ONCE = 3
const CLOCK_ROUNDS = 30

export interface Arrivals {
  /** `[milliseconds since the watch began, bytes]` of each bulk frame. */
  bulk: [number, number][]
  /** Milliseconds from the send to the whole frame, by the receiver's clock less the offset it was told. */
  timed: number[]
}

let links: PeerLinks
let watchedSince = 0
let offset = 0
let arrivals: Arrivals = { bulk: [], timed: [] }
let answered: (answer: { theirs: number; at: number }) => void = () => {}
let bulkUntil = 0
const others: [string, number, number][] = []
const lost: string[] = []

/** Milliseconds of a clock that both ends, on one machine, share but for a small offset. */
const clock = () => performance.timeOrigin + performance.now()

function stamped(kind: number, bytes: number, time: number): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(bytes)
  const view = new DataView(frame.buffer)
  view.setUint8(0, kind)
  if (bytes >= 16) view.setFloat64(8, time, true)
  return frame
}

function receive(from: string, frame: Uint8Array<ArrayBuffer>): void {
  const now = clock()
  const view = new DataView(frame.buffer, frame.byteOffset)
  const kind = view.getUint8(0)
  if (kind === BULK) arrivals.bulk.push([now - watchedSince, frame.byteLength])
  if (kind === TIMED) arrivals.timed.push(now - offset - view.getFloat64(8, true))
  if (kind === CLOCK) void links.send(from, stamped(CLOCK_ANSWER, 16, clock()))
  if (kind > CLOCK_ANSWER) others.push([from, kind, frame.byteLength])
  if (kind === CLOCK_ANSWER) answered({ theirs: view.getFloat64(8, true), at: now })
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

export const end = {
  begin(port: MessagePort, identity: PeerIdentity) {
    links = new PeerLinks(port)
    links.onFrame(receive)
    links.onLost((nodeId) => lost.push(nodeId))
    links.openPeer(identity)
  },
  /** Becomes this node, and no other any more. */
  join: (identity: PeerIdentity) => links.openPeer(identity),
  setPartners: (ids: string[]) => links.setPartners(ids),
  isOpen: (nodeId: string) => links.isOpen(nodeId),
  way: (nodeId: string) => links.wayTo(nodeId),
  connectionsTo: (nodeId: string) => links.connectionsTo(nodeId),
  totals: (): LinkTotals => links.totals(),

  /** What came, as `[from, first byte, bytes]` of each frame of another kind. */
  others: (): [string, number, number][] => others,
  /** Sends one frame, over a link that is made if there is none. Null, or the code of the error. */
  sendOther: (to: string, first: number, bytes: number): Promise<string | null> =>
    links.send(to, stamped(first, bytes, 0)).then(
      () => null,
      (caught: unknown) => toErrorBody(caught).code,
    ),
  lost: (): string[] => lost,

  /** How far the partner's clock is ahead, and the round trip, in milliseconds; by the shortest of some rounds (NTP's way). */
  async measureClock(partner: string): Promise<{ ahead: number; rttMs: number }> {
    let best = { ahead: 0, rttMs: Infinity }
    for (let round = 0; round < CLOCK_ROUNDS; round++) {
      const sent = clock()
      const answer = new Promise<{ theirs: number; at: number }>((resolve) => (answered = resolve))
      await links.send(partner, stamped(CLOCK, 16, sent))
      const { theirs, at } = await answer
      const rttMs = at - sent
      if (rttMs < best.rttMs) best = { ahead: theirs - (sent + at) / 2, rttMs }
      await pause(10)
    }
    return best
  },
  /** `ahead`: how far this clock is ahead of the partner's. */
  watch(ahead: number) {
    watchedSince = clock()
    offset = ahead
    arrivals = { bulk: [], timed: [] }
  },
  arrivals: (): Arrivals => arrivals,

  async bulk(partner: string, milliseconds: number): Promise<void> {
    bulkUntil = clock() + milliseconds
    const sender = async () => {
      while (clock() < bulkUntil) await links.send(partner, stamped(BULK, BULK_FRAME_BYTES, 0), 'merge')
    }
    await Promise.all(Array.from({ length: BULK_AT_ONCE }, sender))
  },
  async messages(partner: string, bytes: number, count: number, gapMs: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      await links.send(partner, stamped(TIMED, bytes, clock()))
      await pause(gapMs)
    }
  },
}

export type NetworkEnd = typeof end
