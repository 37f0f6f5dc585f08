/** Owns the phase machine of the page: what happened, and therefore what the page says, as a pure function. */
import type { NodePhase } from '../protocol/control.ts'
import type { ErrorBody } from '../protocol/errors.ts'
import type { StageEvent } from '../stage/workerContract.ts'
import type { VolunteerPhase, VolunteerPhaseName } from './snapshot.ts'

export type PhaseEvent =
  | StageEvent
  | { type: 'start' }
  | { type: 'pause' }
  | { type: 'resume' }
  | { type: 'stop' }
  | { type: 'otherTab' }
  | { type: 'leading' }
  /** The Worker is gone or of no use; a new one starts in `retryInMs`. */
  | { type: 'down'; error: ErrorBody; retryInMs: number }
  | { type: 'retry' }

/** Phases in which nothing but a person's word, or another tab's end, changes anything. */
const resting: ReadonlySet<VolunteerPhaseName> = new Set(['idle', 'blocked', 'otherTab', 'stopped'])

export const isResting = (phase: VolunteerPhase) => resting.has(phase.name)

/** A node's own phase in the page's words. `standby` keeps the reason that the server gave. */
function phaseOfNode(now: VolunteerPhase, phase: NodePhase, progress: number | null): VolunteerPhase {
  if (phase === 'loading') return { name: 'loading', progress }
  if (phase === 'standby') return now.name === 'waiting' ? now : { name: 'waiting', reason: 'Waiting for work.' }
  return { name: phase }
}

/** What the page says after `event`. An event that means nothing in this phase changes nothing. */
export function nextPhase(phase: VolunteerPhase, event: PhaseEvent): VolunteerPhase {
  if (event.type === 'stop') return phase.name === 'idle' ? phase : { name: 'stopped' }
  if (phase.name === 'otherTab') return event.type === 'leading' ? { name: 'checking' } : phase
  if (isResting(phase)) return event.type === 'start' ? { name: 'checking' } : phase
  switch (event.type) {
    case 'blocked':
      return { name: 'blocked', error: event.error }
    case 'down':
      return { name: 'lostDevice', error: event.error, retryInMs: event.retryInMs }
    case 'otherTab':
      return { name: 'otherTab' }
    case 'retry':
      return phase.name === 'lostDevice' ? { name: 'checking' } : phase
    case 'resume':
      return phase.name === 'paused' ? { name: 'waiting', reason: 'Taking part again.' } : phase
    case 'pause':
      return { name: 'paused' }
  }
  // What is left comes from the Worker: it does not end a pause, and a dead Worker's last words change nothing.
  if (phase.name === 'paused' || phase.name === 'lostDevice') return phase
  switch (event.type) {
    case 'control':
      if (!event.connected) return { name: 'reconnecting' }
      return phase.name === 'checking' || phase.name === 'reconnecting'
        ? { name: 'waiting', reason: 'Connected; waiting for the server’s word.' }
        : phase
    case 'standby':
    case 'released':
      return { name: 'waiting', reason: event.reason }
    case 'assigned':
      return { name: 'loading', progress: null }
    case 'phase':
      return phase.name === 'reconnecting' ? phase : phaseOfNode(phase, event.phase, event.progress)
    default:
      return phase
  }
}
