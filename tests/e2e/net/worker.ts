/** Owns the Worker of the link test: it makes random frames, sends them and hashes what arrives. */
import * as Comlink from 'comlink'
import { PeerLinks, type LinkTotals } from '../../../src/net/peerLinks.ts'
import { toErrorBody } from '../../../src/protocol/errors.ts'
import type { PeerIdentity } from '../../../src/net/linkMessages.ts'

interface Arrived {
  from: string
  bytes: number
  hash: string
}

let links: PeerLinks
const arrived: Arrived[] = []
const lostLinks: string[] = []
let hashing = Promise.resolve()

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('')
}

const probe = {
  begin(port: MessagePort, identity: PeerIdentity) {
    links = new PeerLinks(port)
    links.onFrame((from, bytes) => {
      hashing = hashing.then(
        async () => void arrived.push({ from, bytes: bytes.byteLength, hash: await sha256(bytes) }),
      )
    })
    links.onLost((nodeId) => lostLinks.push(nodeId))
    links.openPeer(identity)
  },
  setPartners: (ids: string[]) => links.setPartners(ids),
  /** Sends one byte, over a link that is made if there is none. Null, or the code of the error. */
  sendByte: (to: string): Promise<string | null> =>
    links.send(to, new Uint8Array(1)).then(
      () => null,
      (caught: unknown) => toErrorBody(caught).code,
    ),
  isOpen: (nodeId: string) => links.isOpen(nodeId),
  /** Sends frames of the given sizes, all begun at once, and returns their hashes. */
  async sendRandom(to: string, sizes: number[]): Promise<string[]> {
    const frames = sizes.map((size) => {
      const bytes = new Uint8Array(size)
      for (let at = 0; at < size; at += 65_536) crypto.getRandomValues(bytes.subarray(at, Math.min(size, at + 65_536)))
      return bytes
    })
    const hashes = await Promise.all(frames.map(sha256))
    await Promise.all(frames.map((frame) => links.send(to, frame)))
    return hashes
  },
  arrived: (): Arrived[] => arrived,
  lost: (): string[] => lostLinks,
  totals: (): LinkTotals => links.totals(),
}

export type LinkProbe = typeof probe
Comlink.expose(probe)
