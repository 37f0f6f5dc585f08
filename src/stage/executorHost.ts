/** Owns what the executor needs of the worker around it. */
import type { LinkSpeed, Priority } from '../net/link.ts'
import type { ExhibitKind } from '../protocol/audit.ts'
import type { Assignment, ClientMessage, NodePhase } from '../protocol/control.ts'
import type { SkeinError } from '../protocol/errors.ts'
import type { ChunkCache } from '../store/chunks.ts'
import type { DeviceKey } from '../store/deviceKey.ts'
import type { StageModel } from './model.ts'

export interface ExecutorHost {
  apiUrl: string
  /** Bearer token of the current control session. */
  token(): string
  /** Signs this device's receipts. */
  key: DeviceKey
  chunks: ChunkCache
  /** `progress` goes from 0 to 1 while kernels are compiled and measured. */
  createModel(assignment: Assignment, progress: (share: number) => void): Promise<StageModel>
  links: {
    setPartners(ids: readonly string[]): void
    send(nodeId: string, bytes: Uint8Array, priority: Priority): Promise<void>
    speedOf(nodeId: string): LinkSpeed | null
  }
  report(message: ClientMessage): void
  /** Gives the server bytes that were claimed. @throws SkeinError `transfer.failed` */
  exhibit(audit: string, kind: ExhibitKind, bytes: Uint8Array<ArrayBufferLike>, signal: AbortSignal): Promise<void>
  phase: (phase: NodePhase, progress: number | null) => void
  assigned(assignment: Assignment): void
  failed(error: SkeinError): void
}
