/** Owns the page at one end of a measured link: a real PeerSession, and a Worker that holds the real PeerLinks. */
import * as Comlink from 'comlink'
import type { PeerIdentity } from '../../../src/net/linkMessages.ts'
import { PeerSession } from '../../../src/net/peerSession.ts'
import type { NetworkEnd } from './end.ts'

const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' })
const end = Comlink.wrap<NetworkEnd>(worker)

declare global {
  interface Window {
    beginEnd(identity: PeerIdentity): Promise<void>
    measuredEnd: typeof end
  }
}

window.measuredEnd = end
window.beginEnd = async (identity) => {
  const { port1, port2 } = new MessageChannel()
  new PeerSession({ port: port1, origin: location.origin })
  await end.begin(Comlink.transfer(port2, [port2]), identity)
}
