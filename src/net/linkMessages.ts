/** Owns what the page's peer session and the Worker's links tell each other over their one MessagePort. */
import type { z } from 'zod'
import type { iceServerSchema, LinkKind } from '../protocol/control.ts'
import type { ErrorBody } from '../protocol/errors.ts'

export type IceServer = z.infer<typeof iceServerSchema>

/** Who this node is to the broker, from the server's `welcome`. */
export interface PeerIdentity {
  nodeId: string
  token: string
  iceServers: IceServer[]
  /** Origin of the server whose relay may be used where no other way opens; left out: none. */
  relay?: string
}

/** Worker → page. A strand's id is PeerJS's connection id, the same at both ends. */
export type LinksMessage =
  | { type: 'open'; identity: PeerIdentity }
  /** `direct`: with no TURN server at either end, so that it opens directly or not at all. */
  | { type: 'dial'; partner: string; direct: boolean }
  /** Both ends listen: the page may measure the route. */
  | { type: 'established'; strandId: string }
  | { type: 'drop'; strandId: string }
  /** One message for a channel that stayed with the page. */
  | { type: 'forward'; strandId: string; data: string | ArrayBuffer }
  | { type: 'close' }

/** Page → Worker. */
export type SessionMessage =
  /** A channel was made, by our dial or by the partner's; null: it stays with the page, which forwards. */
  | { type: 'strand'; strandId: string; partner: string; dialled: boolean; channel: RTCDataChannel | null }
  | { type: 'gone'; strandId: string }
  /** Nothing comes through at the moment: a network may have changed. Or it does again. */
  | { type: 'shaky'; strandId: string; shaky: boolean }
  | { type: 'kind'; strandId: string; kind: LinkKind }
  | { type: 'broker'; connected: boolean; error: ErrorBody | null }
  | { type: 'forwardOpen'; strandId: string }
  | { type: 'forwarded'; strandId: string; data: string | ArrayBuffer }
