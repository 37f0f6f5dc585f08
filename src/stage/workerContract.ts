/** Owns what a page (or the agent) and its node say to each other: calls one way, events the other, one port for links. */
import type { AdapterDescription, NodePhase, NodeStats } from '../protocol/control.ts'
import type { ErrorBody } from '../protocol/errors.ts'
import type { SignedReceipt } from '../protocol/receipt.ts'
import type { DeviceIdentity } from '../store/deviceKey.ts'
import type { Credited } from '../store/receipts.ts'
import type { ProvenMemory } from './deviceMemory.ts'

/** Everything the node must know before it touches the GPU or the network. */
export interface StageStart {
  /** Absolute `ws:` or `wss:` address of the control WebSocket. */
  controlUrl: string
  /** Absolute address of `/api/v1`, without a slash at its end; datasets and checkpoint chunks come from there. */
  apiUrl: string
  /** Lasts as long as the browser profile, or the agent's state folder. */
  device: DeviceIdentity
  /** False: a software adapter ends in `blocked` with `gpu.software_adapter`, and no socket is opened. */
  allowSoftware: boolean
  /** Bytes the page offers for weights, gradients, moments and activations; the device is tried for them first. */
  memoryBytes: number
}

/** What the page calls on the Worker, by Comlink on the Worker's global scope. */
export interface StageWorkerApi {
  /**
   * Resolves once the Worker runs on its own; everything after that is told by events. `page` is a Comlink proxy and must
   * stay referenced; `links` is the port for `new PeerLinks(links)`. Called once in a Worker's life.
   */
  start(options: StageStart, page: StagePage, links: MessagePort): Promise<void>
  /** Finishes what cannot be dropped, tells the server `pause` and holds still. */
  pause(): Promise<void>
  resume(): Promise<void>
  /** Sends `leaving`, closes every link and the control socket and frees the GPU; the page then terminates the Worker. */
  stop(): Promise<void>
}

/** What the Worker calls on the page. */
export interface StagePage {
  event(event: StageEvent): void
}

/** In the order in which they happen; the page folds them into its phase and snapshot. */
export type StageEvent =
  | { type: 'adapter'; adapter: AdapterDescription }
  /** What of the offer the device proved to have; the server hears `memoryBytes`. */
  | { type: 'memory'; memory: ProvenMemory }
  /** The control socket opened (`welcome` received) or was lost; the Worker redials it by itself, and computes on meanwhile. */
  | { type: 'control'; connected: boolean }
  /** Nothing to do yet; `reason` is the server's sentence. */
  | { type: 'standby'; reason: string }
  | { type: 'assigned'; run: { id: string; name: string }; stage: number; stages: number }
  /** The assignment is gone; `standby` or `assigned` follows. */
  | { type: 'released'; reason: string }
  /** Whatever a heartbeat would say. */
  | { type: 'phase'; phase: NodePhase; progress: number | null }
  /** A training step began, by the run's count. */
  | { type: 'step'; step: number }
  /** Totals since this Worker started; about once a second is enough. */
  | { type: 'stats'; stats: NodeStats }
  /** A step with this device's work was committed: what the server says it earned, and what this device had signed for it. */
  | { type: 'credited'; credited: Credited; signed: readonly SignedReceipt[] }
  /** This generation cannot go on here (a link, a chunk, memory); the Worker told the server and lives on. */
  | { type: 'failed'; error: ErrorBody }
  /** Nothing helps but a person: no adapter, software adapter, too small limits, rejected by the server. */
  | { type: 'blocked'; error: ErrorBody }
  /** The GPU device is gone; the page starts a fresh Worker. */
  | { type: 'deviceLost'; error: ErrorBody }
