/** Owns the server of the box's links: the page, the broker, the relay and the ICE servers, all of them the real ones. */
import path from 'node:path'
import { createTokens } from '../../../server/control/tokens.ts'
import { attachBroker } from '../../../server/signalling/broker.ts'
import { iceSource } from '../../../server/signalling/iceServers.ts'
import { attachRelay } from '../../../server/signalling/relay.ts'
import type { PeerIdentity } from '../../../src/net/linkMessages.ts'
import { servePage } from '../../e2e/servePage.ts'
import type { Box } from './box.ts'
import { startCoturn } from './coturn.ts'
import { startStun } from './stun.ts'

export interface Meeting {
  origin: string
  hasTurn: boolean
  identity(nodeId: string, ways: { turn: boolean; relay: boolean }): PeerIdentity
  relayed(): { pairs: number; bytes: number }
  close(): Promise<void>
}

const CAPS = { bytesPerSecond: 1e8, bytesPerDay: 1e12 }

export async function openMeeting(box: Box): Promise<Meeting> {
  const served = await servePage(path.join(import.meta.dirname, '..', '..', 'bench', 'network'), box.address)
  const tokens = createTokens(new Uint8Array(32).fill(7))
  const broker = attachBroker(served.server, tokens)
  const relay = attachRelay(served.server, { nodeOf: tokens.nodeOf, limits: { pair: CAPS, all: CAPS } })
  const stun = await startStun(box.address)
  const coturn = await startCoturn(box.address)
  const ice = (turn: boolean) => iceSource([{ urls: [stun.url] }], turn ? (coturn?.turn ?? null) : null)
  return {
    origin: served.origin,
    hasTurn: coturn !== null,
    identity: (nodeId, ways) => ({
      nodeId,
      token: tokens.issue(nodeId, 'device', 'session'),
      iceServers: ice(ways.turn).serversFor(nodeId),
      ...(ways.relay && { relay: served.origin }),
    }),
    relayed: () => relay.counts(),
    async close() {
      broker.close()
      relay.close()
      stun.close()
      coturn?.close()
      await served.close()
    },
  }
}
