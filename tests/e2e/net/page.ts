/** Owns the page of the link test: a real PeerSession, and a Worker that holds the real PeerLinks. */
import * as Comlink from 'comlink'
import { PeerSession } from '../../../src/net/peerSession.ts'
import type { PeerIdentity } from '../../../src/net/linkMessages.ts'
import type { LinkProbe } from './worker.ts'

const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' })
const probe = Comlink.wrap<LinkProbe>(worker)
let session: PeerSession | null = null

declare global {
  interface Window {
    begin(identity: PeerIdentity, forward: boolean): Promise<void>
    probe: typeof probe
    endSession(): void
  }
}

window.probe = probe
window.begin = async (identity, forward) => {
  const { port1, port2 } = new MessageChannel()
  session = new PeerSession({ port: port1, origin: location.origin, forward })
  await probe.begin(Comlink.transfer(port2, [port2]), identity)
}
window.endSession = () => session?.close()
