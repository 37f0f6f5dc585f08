/** Owns the words for runs and nodes in the console. */
import type { RunState, RunSummary } from '../../protocol/api.ts'
import type { NodePhase } from '../../protocol/control.ts'
import { stepTokens } from '../../protocol/lanes.ts'
import type { Mood } from './phase.ts'

export const runStateWords: Record<RunState, { label: string; mood: Mood }> = {
  waiting: { label: 'Waiting', mood: 'still' },
  preparing: { label: 'Preparing', mood: 'busy' },
  training: { label: 'Training', mood: 'working' },
  evaluating: { label: 'Evaluating', mood: 'working' },
  paused: { label: 'Paused', mood: 'trouble' },
  finished: { label: 'Finished', mood: 'still' },
  cancelled: { label: 'Cancelled', mood: 'still' },
  failed: { label: 'Failed', mood: 'trouble' },
}

export const nodePhaseWords: Record<NodePhase, { label: string; mood: Mood }> = {
  standby: { label: 'Stands by', mood: 'standby' },
  loading: { label: 'Downloading weights', mood: 'busy' },
  compiling: { label: 'Compiling', mood: 'busy' },
  connecting: { label: 'Connecting', mood: 'busy' },
  ready: { label: 'Ready', mood: 'busy' },
  training: { label: 'Training', mood: 'working' },
  merging: { label: 'Merging', mood: 'working' },
  evaluating: { label: 'Evaluating', mood: 'working' },
  checkpointing: { label: 'Checkpointing', mood: 'working' },
  paused: { label: 'Paused', mood: 'still' },
}

/** True once a run can change no more. */
export function hasEnded(state: RunState): boolean {
  return state === 'finished' || state === 'cancelled' || state === 'failed'
}

/** Milliseconds until the last step at the present rate; null while there is no rate to go by. */
export function timeLeft(run: RunSummary): number | null {
  if (hasEnded(run.state) || !run.tokensPerSecond || run.state !== 'training') return null
  const tokens = (run.config.steps - run.step) * stepTokens(run.config)
  return (tokens / run.tokensPerSecond) * 1000
}

/** What runs are called, by their ids. */
export function runNames(runs: readonly Pick<RunSummary, 'id' | 'name'>[]): ReadonlyMap<string, string> {
  return new Map(runs.map(({ id, name }) => [id, name]))
}
