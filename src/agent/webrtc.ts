/** Owns the WebRTC of a process without a browser: a native one under the names by which PeerJS looks for it. */
import { cleanup } from 'node-datachannel'
import { RTCDataChannel, RTCIceCandidate, RTCPeerConnection, RTCSessionDescription } from 'node-datachannel/polyfill'

/** Those that hold native threads and buffers. */
const open = new Set<NativePeerConnection>()

/**
 * The native library takes a relay's name and password inside its address, where a colon, a slash or an at sign, as
 * short-lived credentials have them, would part it in the wrong place; it undoes percent-encoding.
 *
 * One that the other end closed keeps what it holds until it is closed here too. PeerJS does not always do so, and the library
 * has forgotten it by then: `cleanup` would wait ten seconds for it and throw.
 */
class NativePeerConnection extends RTCPeerConnection {
  constructor(config: RTCConfiguration = {}) {
    const iceServers = (config.iceServers ?? []).map((server) => ({
      ...server,
      ...(server.username && { username: encodeURIComponent(server.username) }),
      ...(server.credential && { credential: encodeURIComponent(server.credential) }),
    }))
    super({ ...config, iceServers })
    open.add(this)
    this.addEventListener('connectionstatechange', () => {
      // Not at once: its other listeners are still to hear of it.
      if (this.connectionState === 'closed') setImmediate(() => this.close())
    })
  }

  override close(): void {
    open.delete(this)
    super.close()
  }
}

/** PeerJS tries WebRTC out as soon as it is loaded, so this comes before. */
export function installWebRtc(): void {
  Object.assign(globalThis, {
    RTCDataChannel,
    RTCIceCandidate,
    RTCPeerConnection: NativePeerConnection,
    RTCSessionDescription,
  })
}

/**
 * What a peer session does differently with the native WebRTC. Its channels cannot be transferred; forwarded slices change hands
 * without being copied. It may not dial with TURN: who dials is the server of the DTLS handshake, and libdatachannel 0.24.5 stops
 * for ever where such a one answers through its own TURN server a greeting that came early (its lock and that of ICE are taken
 * in two orders; its pull request 1630). The other end's TURN server joins the two as well.
 */
export const AGENT_SESSION = { forward: true, dialsWithTurn: false } as const

/** Ends the threads behind the connections; none can be made after it. */
export function endWebRtc(): void {
  for (const connection of open) connection.close()
  cleanup()
}
