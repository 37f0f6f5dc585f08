/** Proves which ICE servers a connection is made with: TURN at both ends, at the end that answers alone, or at none. */
import { afterEach, expect, it, vi } from 'vitest'
import type { Peer } from 'peerjs'
import { DIRECT_HANDOVER, HANDOVER, handoverSerializers } from '../../../src/net/handover.ts'

/** What PeerJS asks of a connection while it is made. */
class PlayedConnection {
  static configs: RTCConfiguration[] = []
  signalingState = 'closed'
  constructor(config: RTCConfiguration) {
    PlayedConnection.configs.push(config)
  }
  createDataChannel() {
    return {}
  }
  createOffer = () => new Promise(() => {})
  setRemoteDescription = () => new Promise(() => {})
  close() {}
}

const servers: RTCIceServer[] = [
  { urls: ['stun:stun.test:3478'] },
  {
    urls: ['turn:turn.test:3478?transport=udp', 'turn:turn.test:3478?transport=tcp', 'turns:turn.test:5349'],
    username: 'u',
    credential: 'c',
  },
  { urls: 'turn:other.test', username: 'u', credential: 'c' },
]
const withoutTurn = ['stun:stun.test:3478', 'stun:turn.test:3478', 'stun:other.test'].map((urls) => ({ urls }))

afterEach(() => vi.unstubAllGlobals())

it.each([
  ['a browser that dials', HANDOVER, true, true, servers],
  ['a browser that answers', HANDOVER, true, false, servers],
  ['an agent that dials', HANDOVER, false, true, withoutTurn],
  ['an agent that answers', HANDOVER, false, false, servers],
  ['whoever dials directly', DIRECT_HANDOVER, true, true, withoutTurn],
  ['whoever answers a direct dial', DIRECT_HANDOVER, true, false, withoutTurn],
  ['an agent that answers a direct dial', DIRECT_HANDOVER, false, false, withoutTurn],
])('%s', (_, serialization, dialsWithTurn, dials, expected) => {
  PlayedConnection.configs = []
  vi.stubGlobal('RTCPeerConnection', PlayedConnection)
  vi.stubGlobal('RTCSessionDescription', Object)
  const closed = vi.fn()
  const Connection = handoverSerializers({ dialsWithTurn, channel: () => {}, closed })[serialization]!
  const config = { iceServers: servers, iceCandidatePoolSize: 1 }
  const peer = { options: { config }, _removeConnection: () => {} } as unknown as Peer
  const options = { serialization, reliable: true, ...(!dials && { _payload: { sdp: {} } }) }
  const connection = new Connection('z', peer, options)
  expect(PlayedConnection.configs).toEqual([{ iceServers: expected, iceCandidatePoolSize: 1 }])
  expect(connection.provider).toBe(peer)
  expect(config.iceServers).toBe(servers)
  connection.close()
  expect(closed).toHaveBeenCalledOnce()
})
