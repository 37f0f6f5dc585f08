/** Owns what PeerJS 1.5 clients and our broker say to each other, and where they meet. */
import { z } from 'zod'

/** Where a page posts its node's token, as text, when it goes away. */
export const LEAVE_PATH = '/api/v1/leave'

/** What a PeerJS client is given as its path; it appends `peerjs` for the socket. */
export const BROKER_BASE = '/peer/'
export const BROKER_PATH = `${BROKER_BASE}peerjs`
export const BROKER_KEY = 'skein'

/** Reasons for which the broker closes a socket, as WebSocket close codes. */
export const BROKER_CLOSE = { malformed: 4400, refused: 4401, replaced: 4409, tooFast: 4429, full: 4503 } as const

const peerId = z.string().min(1).max(64)
const connectionId = z.string().min(1).max(128)
const sdp = (type: 'offer' | 'answer') => z.object({ type: z.literal(type), sdp: z.string().max(60_000) })

/** Unknown fields are stripped, so nothing but these reaches the other peer. */
export const peerMessageSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('HEARTBEAT') }),
  z.object({
    type: z.literal('OFFER'),
    dst: peerId,
    payload: z.object({
      sdp: sdp('offer'),
      type: z.literal('data'),
      connectionId,
      label: z.string().max(128),
      reliable: z.boolean(),
      serialization: z.string().max(32),
    }),
  }),
  z.object({
    type: z.literal('ANSWER'),
    dst: peerId,
    payload: z.object({ sdp: sdp('answer'), type: z.literal('data'), connectionId }),
  }),
  z.object({
    type: z.literal('CANDIDATE'),
    dst: peerId,
    payload: z.object({
      candidate: z.object({
        candidate: z.string().max(2000),
        sdpMid: z.string().max(64).nullish(),
        sdpMLineIndex: z.int().min(0).max(64).nullish(),
        usernameFragment: z.string().max(256).nullish(),
      }),
      type: z.literal('data'),
      connectionId,
    }),
  }),
  /** The sender ends every connection with `dst`. */
  z.object({ type: z.literal('LEAVE'), dst: peerId }),
])
export type PeerMessage = z.infer<typeof peerMessageSchema>
export type RelayedMessage = Exclude<PeerMessage, { type: 'HEARTBEAT' }>

/** Parses one text message; null when it is not one a peer may send. */
export function parsePeerMessage(text: string): PeerMessage | null {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return null
  }
  const parsed = peerMessageSchema.safeParse(value)
  return parsed.success ? parsed.data : null
}

/** Broker → peer. EXPIRE names in `src` the peer that was not there in time. */
export type BrokerMessage =
  | { type: 'OPEN' }
  | { type: 'EXPIRE'; src: string; dst: string }
  | { type: 'ERROR'; payload: { msg: string } }
  | (RelayedMessage & { src: string })

/** Where two nodes that no other way joins meet, as WebSockets with `id`, `token` and `to` in the query. */
export const RELAY_PATH = '/relay'

/** Reasons for which the relay closes a socket, as WebSocket close codes. */
export const RELAY_CLOSE = { refused: 4401, absent: 4404, replaced: 4409, gone: 4410, spent: 4413, full: 4503 } as const
