/** Owns how events become the page's snapshot, as a pure function. */
import type { NodeStats } from '../protocol/control.ts'
import { addContribution, NO_CONTRIBUTION, type Contribution } from '../store/device.ts'
import { worth } from '../store/receipts.ts'
import { isResting, nextPhase, type PhaseEvent } from './phase.ts'
import type { VolunteerSnapshot } from './snapshot.ts'

export interface VolunteerState {
  readonly snapshot: VolunteerSnapshot
  /** What earlier visits contributed. */
  readonly before: Contribution
  /** What earlier Workers of this page contributed, and what the present one did: its stats are totals. */
  readonly earlier: Contribution
  readonly current: Contribution
}

export const INITIAL_STATE: VolunteerState = {
  snapshot: {
    phase: { name: 'idle' },
    run: null,
    stage: null,
    stages: null,
    step: null,
    ...NO_CONTRIBUTION,
    credit: 0n,
    refused: 0,
    refusal: null,
    link: 'unknown',
    error: null,
    adapter: null,
    memory: null,
    lifetime: { ...NO_CONTRIBUTION },
  },
  before: NO_CONTRIBUTION,
  earlier: NO_CONTRIBUTION,
  current: NO_CONTRIBUTION,
}

export type VolunteerEvent =
  | PhaseEvent
  /** What earlier visits contributed, read from the profile. */
  | { type: 'profile'; contribution: Contribution }

const unassigned = { run: null, stage: null, stages: null, step: null, link: 'unknown' } as const

const contributed = ({ tokens, steps, upBytes, downBytes }: NodeStats): Contribution => ({
  tokens,
  steps,
  upBytes,
  downBytes,
})

/** What this page contributed since it was loaded. */
export function sessionContribution(state: VolunteerState): Contribution {
  return addContribution(state.earlier, state.current)
}

export function foldEvent(state: VolunteerState, event: VolunteerEvent): VolunteerState {
  const { snapshot } = state
  if (event.type === 'profile') return retotal({ ...state, before: event.contribution })
  const phase = nextPhase(snapshot.phase, event)
  const next = { ...state, snapshot: { ...snapshot, phase } }
  switch (event.type) {
    case 'start':
      // A start that changes nothing must not hide an error.
      return phase === snapshot.phase ? state : changed(next, { error: null })
    case 'adapter':
      return changed(next, { adapter: event.adapter })
    case 'memory':
      return changed(next, { memory: event.memory })
    case 'assigned':
      return changed(next, { run: event.run, stage: event.stage, stages: event.stages })
    case 'step':
      return changed(next, { step: event.step })
    case 'standby':
    case 'released':
      return changed(next, unassigned)
    case 'failed':
      return changed(next, { error: event.error })
    case 'blocked':
      return changed(next, { ...unassigned, error: event.error })
    case 'stats': {
      const current = contributed(event.stats)
      // A committed step is the proof that whatever failed before is over.
      const error = current.steps > state.current.steps ? null : snapshot.error
      return retotal(changed({ ...next, current }, { link: event.stats.link, error }))
    }
    case 'credited': {
      const { credit, refused } = worth(event.credited)
      const refusal = event.credited.refused.at(-1)?.error ?? snapshot.refusal
      return changed(next, { credit: snapshot.credit + credit, refused: snapshot.refused + refused, refusal })
    }
    case 'down':
      return changed(nextWorker(next), { ...unassigned, error: event.error })
    case 'stop':
      return changed(nextWorker(next), unassigned)
    default:
      return isResting(phase) ? changed(next, unassigned) : next
  }
}

const changed = (state: VolunteerState, change: Partial<VolunteerSnapshot>): VolunteerState => ({
  ...state,
  snapshot: { ...state.snapshot, ...change },
})

/** The present Worker ends: its totals are kept, the next one counts from nought. */
const nextWorker = (state: VolunteerState): VolunteerState => ({
  ...state,
  earlier: sessionContribution(state),
  current: NO_CONTRIBUTION,
})

function retotal(state: VolunteerState): VolunteerState {
  const session = sessionContribution(state)
  return changed(state, { ...session, lifetime: addContribution(state.before, session) })
}
