/** Owns what the page knows about its volunteer at one moment: the phase in plain words, the run, and the totals. */
import type { AdapterDescription, LinkKind } from '../protocol/control.ts'
import type { ErrorBody } from '../protocol/errors.ts'
import type { ProvenMemory } from '../stage/deviceMemory.ts'
import type { Contribution } from '../store/device.ts'

export type { Contribution }

/** What this device is doing; `progress` goes from 0 to 1, or is null while it is unknown. */
export type VolunteerPhase =
  /** Nothing runs; the button says start. */
  | { name: 'idle' }
  /** Looking for a GPU and reaching the server. */
  | { name: 'checking' }
  /** A person must act first; `gpu.software_adapter` offers `start({ allowSoftware: true })`. */
  | { name: 'blocked'; error: ErrorBody }
  /** Another tab of this profile contributes; this one takes over when that one closes. */
  | { name: 'otherTab' }
  /** Connected, and nothing to do; `reason` is the server's sentence. */
  | { name: 'waiting'; reason: string }
  | { name: 'loading'; progress: number | null }
  | { name: 'compiling' }
  | { name: 'connecting' }
  /** Ready for a step and waiting for the others. */
  | { name: 'ready' }
  | { name: 'training' }
  | { name: 'merging' }
  | { name: 'evaluating' }
  | { name: 'checkpointing' }
  | { name: 'paused' }
  /** The control socket is down and being redialled. */
  | { name: 'reconnecting' }
  /** The GPU or its Worker died; a fresh one starts in `retryInMs` milliseconds. */
  | { name: 'lostDevice'; error: ErrorBody; retryInMs: number }
  /** Stopped by the person. */
  | { name: 'stopped' }

export type VolunteerPhaseName = VolunteerPhase['name']

export interface VolunteerSnapshot {
  phase: VolunteerPhase
  run: { id: string; name: string } | null
  /** From 0; null without an assignment. */
  stage: number | null
  stages: number | null
  /** The training step under way, by the run's count; null until the first. */
  step: number | null
  /** Since the page was loaded. */
  tokens: number
  steps: number
  upBytes: number
  downBytes: number
  /** Model FLOPs of accepted work since the page was loaded; credited step by step, as each is committed. */
  credit: bigint
  /** Microbatches since then whose work was refused, and why the last of them was. */
  refused: number
  refusal: ErrorBody | null
  link: LinkKind
  /** The last thing that went wrong and did not stop us; cleared by the next step. */
  error: ErrorBody | null
  adapter: AdapterDescription | null
  /** What this device offers a stage, and how much of it was tried; null until then. */
  memory: ProvenMemory | null
  /** This session included. */
  lifetime: Contribution
}

/** What `createVolunteer` returns and the page drives. */
export interface Volunteer {
  /** Idempotent. `allowSoftware` is the person's word that a slow software adapter is fine. */
  start(options?: { allowSoftware?: boolean }): void
  pause(): void
  resume(): void
  stop(): void
  snapshot(): VolunteerSnapshot
  /** Calls `listener` at once and at each change, until the returned function is called. */
  subscribe(listener: (snapshot: VolunteerSnapshot) => void): () => void
}
