/**
 * Owns the order of a payout: freeze, sign, persist, submit, reconcile at finality, and sign again only when the bytes before can never be
 * included. One command is under way at a time; after a crash the same order goes on from what the store holds.
 */
import type { ErrorBody } from '../../src/protocol/errors.ts'
import type { Inclusion } from '../chain/port.ts'
import type { Attempt, Batch, PayoutCommand, PayoutEvent, PayoutState } from './types.ts'
import { verdictOf } from './verdict.ts'

/** Finalized blocks after which bytes that are in no block are handed to the node again: a pool may have lost them. */
const RESUBMIT_BLOCKS = 4
/** Finalized blocks between two looks at what is owed while there is nothing to do. */
const PLAN_BLOCKS = 5
/** Finalized blocks of rest after a batch was released; doubled for each further one, up to a bound. */
const REST_BLOCKS = 10
const MAX_REST_BLOCKS = 640

export const initialPayouts = (): PayoutState => ({
  finalized: null,
  batch: null,
  awaiting: null,
  scanned: 0,
  submittedAt: null,
  notBefore: 0,
  releases: 0,
  idle: null,
  halted: null,
  trouble: null,
})

export interface Decision {
  state: PayoutState
  commands: PayoutCommand[]
}

const remedy = 'Compare the batch with the block; then set it right in the database, and start the server again.'

const disputedBatch = (id: number): ErrorBody => ({
  code: 'payout.disputed',
  message: `Batch ${id} is in a state that no further payout may follow.`,
  remedy,
})

/** What has to be done next, from the state alone; null while there is nothing, or something is under way. */
function next(state: PayoutState): PayoutCommand | null {
  const { batch, finalized } = state
  if (finalized === null || state.awaiting || state.halted || state.trouble) return null
  if (batch === null) return finalized >= state.notBefore ? { kind: 'plan' } : null
  const { attempt } = batch
  if (attempt === null) return finalized >= state.notBefore ? { kind: 'sign', batch, number: batch.attempts + 1 } : null
  // Looked for before it is sent again: most often it is there already.
  const to = Math.min(finalized, attempt.death)
  if (state.scanned < to) return { kind: 'scan', attempt, from: state.scanned + 1, to }
  if (finalized >= attempt.death) return { kind: 'expire', batch, attempt }
  if (state.submittedAt === null || finalized >= state.submittedAt + RESUBMIT_BLOCKS)
    return { kind: 'submit', bytes: attempt.bytes }
  return null
}

/** The state from which an attempt is followed: nothing searched since its birth, nothing submitted yet. */
const following = (state: PayoutState, batch: Batch, attempt: Attempt): PayoutState => ({
  ...state,
  batch: { ...batch, attempts: attempt.number, attempt },
  scanned: attempt.birth.number,
  submittedAt: null,
})

function opened(state: PayoutState, event: Extract<PayoutEvent, { kind: 'opened' }>): PayoutState {
  const { batch, disputed, genesis } = event
  if (disputed !== null) return { ...state, halted: disputedBatch(disputed) }
  if (batch === null) return state
  if (batch.genesis !== genesis) {
    const halted = {
      code: 'payout.other_chain',
      message: `Batch ${batch.id} was frozen for the chain with genesis ${batch.genesis}, and this is ${genesis}.`,
      remedy: 'Set SKEIN_CHAIN_URL to a node of that chain.',
    }
    return { ...state, halted }
  }
  return batch.attempt ? following(state, batch, batch.attempt) : { ...state, batch }
}

/** What is done about an extrinsic that was found in a finalized block. */
function conclude(batch: Batch, inclusion: Inclusion): PayoutCommand {
  const verdict = verdictOf(batch, inclusion)
  if (verdict.kind === 'paid') return { kind: 'settle', batch, inclusion }
  const kind = verdict.kind === 'failed' ? 'release' : 'dispute'
  return { kind, batch, reason: verdict.reason, inclusion }
}

/** Applies an event to the state, and says what it asks for by itself; null leaves that to {@link next}. */
function apply(state: PayoutState, event: PayoutEvent): { state: PayoutState; command: PayoutCommand | null } {
  const { awaiting, batch } = state
  const only = (changed: PayoutState) => ({ state: changed, command: null })
  if (event.kind === 'finalized') {
    // A node behind another one may know less than was known; finality itself never goes back.
    const finalized = Math.max(state.finalized ?? 0, event.number)
    return only({ ...state, finalized, trouble: finalized > (state.finalized ?? -1) ? null : state.trouble })
  }
  if (event.kind === 'opened') return only(opened(state, event))
  const done: PayoutState = { ...state, awaiting: null, trouble: null }
  const height = state.finalized ?? 0
  switch (event.kind) {
    case 'failed':
      return only({ ...state, awaiting: null, trouble: event.error })
    case 'planned': {
      if (event.draft) return { state: { ...done, idle: event.idle }, command: { kind: 'freeze', draft: event.draft } }
      return only({ ...done, idle: event.idle, notBefore: height + PLAN_BLOCKS })
    }
    case 'frozen':
      return only({ ...done, batch: event.batch, idle: null })
    case 'signed':
      return { state: done, command: { kind: 'persist', batch: batch!, attempt: event.attempt } }
    case 'unpayable':
      return { state: done, command: { kind: 'release', batch: batch!, reason: event.reason, inclusion: null } }
    case 'persisted':
      return only(following(done, batch!, event.attempt))
    case 'submitted':
      return only({ ...done, submittedAt: height })
    case 'scanned': {
      if (event.found) return { state: done, command: conclude(batch!, event.found) }
      const { attempt } = batch!
      if (event.birthHash !== attempt!.birth.hash) {
        const reason = `Block ${attempt!.birth.number}, which was final when the batch was signed, is another one now.`
        return { state: done, command: { kind: 'dispute', batch: batch!, reason, inclusion: null } }
      }
      return only({ ...done, scanned: event.to })
    }
    case 'expired':
      return only({ ...done, batch: { ...batch!, attempt: null } })
    case 'settled':
      return only({ ...done, batch: null, releases: 0, notBefore: height })
    case 'released': {
      const rest = Math.min(MAX_REST_BLOCKS, REST_BLOCKS * 2 ** state.releases)
      return only({ ...done, batch: null, releases: state.releases + 1, notBefore: height + rest })
    }
    case 'disputed': {
      const reason = awaiting?.kind === 'dispute' ? awaiting.reason : ''
      const halted = { ...disputedBatch(batch!.id), message: reason }
      return only({ ...done, batch: null, halted })
    }
  }
}

/** The pure core: what a state becomes by an event, and what is to be done then, at most one thing. */
export function payout(state: PayoutState, event: PayoutEvent): Decision {
  const applied = apply(state, event)
  const command = applied.command ?? next(applied.state)
  if (command === null) return { state: applied.state, commands: [] }
  return { state: { ...applied.state, awaiting: command }, commands: [command] }
}
