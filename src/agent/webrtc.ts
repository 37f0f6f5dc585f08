/** Owns the WebRTC of a process without a browser: a native one under the names by which PeerJS looks for it. */
import { cleanup } from 'node-datachannel'
import { RTCDataChannel, RTCIceCandidate, RTCPeerConnection, RTCSessionDescription } from 'node-datachannel/polyfill'

/** PeerJS tries WebRTC out as soon as it is loaded, so this comes before. */
export function installWebRtc(): void {
  Object.assign(globalThis, { RTCDataChannel, RTCIceCandidate, RTCPeerConnection, RTCSessionDescription })
}

/** Ends the threads behind the connections; none can be made after it. */
export const endWebRtc = cleanup
