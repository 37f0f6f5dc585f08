/** Owns what the console says of a seat of a stage, and of all seats of a stage together. */
import type { NodeView, RunState } from '../../protocol/api.ts'
import type { NodePhase } from '../../protocol/control.ts'
import { percent, span } from '../words/quantities.ts'
import type { Mood } from '../words/phase.ts'
import { nodePhaseWords } from '../words/run.ts'

export type SeatState = 'working' | 'ready' | 'preparing' | 'standby' | 'silent' | 'empty'

export interface Seat {
  /** Null where nobody sits, or where somebody sits of whom nothing more is known. */
  readonly node: NodeView | null
  readonly nodeId: string | null
  readonly state: SeatState
  readonly label: string
  readonly mood: Mood
  /** Milliseconds since it was heard, where that is news. */
  readonly silentMs: number | null
}

/** Cells that tell of one device each are drawn for no more seats than this; beyond it a stage becomes a mosaic. */
export const CELLS = 12

const preparing: ReadonlySet<NodePhase> = new Set(['loading', 'compiling', 'connecting'])
const working: ReadonlySet<NodePhase> = new Set(['training', 'merging', 'evaluating', 'checkpointing'])

/**
 * Each seat of a stage, in the order in which the server lists them.
 * @param since milliseconds since the server told
 */
export function stageSeats(
  row: readonly (string | null)[],
  nodes: ReadonlyMap<string, NodeView>,
  run: RunState,
  since: number,
): Seat[] {
  return row.map((nodeId) => {
    const node = (nodeId === null ? null : nodes.get(nodeId)) ?? null
    if (!node)
      return { node, nodeId, state: 'empty', label: nodeId ? 'Gone' : 'Empty seat', mood: 'still', silentMs: null }
    return { node, nodeId, ...seatWords(node, run, Math.max(0, since)) }
  })
}

function seatWords(node: NodeView, run: RunState, since: number): Omit<Seat, 'node' | 'nodeId'> {
  const { phase, progress } = node
  const own = nodePhaseWords[phase]
  const silentMs = node.suspect ? node.silentMs + since : null
  if (silentMs !== null) return { state: 'silent', label: `Silent for ${span(silentMs)}`, mood: 'trouble', silentMs }
  if (preparing.has(phase)) {
    const label = progress === null ? own.label : `${own.label} ${percent(progress)}`
    return { state: 'preparing', label, mood: own.mood, silentMs }
  }
  const underWay = run === 'training' || run === 'evaluating'
  if (!underWay && !working.has(phase)) {
    // Assigned, and not heard since; whoever is not assigned waits for the run to start.
    if (phase !== 'ready' && node.runId !== null)
      return { state: 'preparing', label: 'Preparing', mood: 'busy', silentMs }
    return { state: 'ready', label: 'Ready', mood: 'busy', silentMs }
  }
  if (node.standby) return { state: 'standby', label: 'Stands by', mood: 'standby', silentMs }
  // Its own word comes with the next heartbeat; that it has leases is known at once.
  const { label } = working.has(phase) ? own : nodePhaseWords[run === 'evaluating' ? 'evaluating' : 'training']
  return { state: 'working', label, mood: 'working', silentMs }
}

/** The states in the order in which they are told, each in a word or two. */
export const seatStates: readonly (readonly [SeatState, word: string])[] = [
  ['working', 'Computes'],
  ['ready', 'Ready'],
  ['preparing', 'Prepares'],
  ['standby', 'Stands by'],
  ['silent', 'Silent'],
  ['empty', 'Empty seat'],
]

const counted: readonly (readonly [SeatState, one: string, more: string])[] = [
  ['working', 'computes', 'compute'],
  ['ready', 'is ready', 'are ready'],
  ['preparing', 'prepares', 'prepare'],
  ['standby', 'stands by', 'stand by'],
  ['silent', 'silent', 'silent'],
  ['empty', 'seat empty', 'seats empty'],
]

/** Such as `54 compute, 3 stand by, 1 silent for 12 s`. */
export function seatCounts(seats: readonly Seat[]): string {
  const parts: string[] = []
  for (const [state, one, more] of counted) {
    const those = seats.filter((seat) => seat.state === state)
    if (those.length === 0) continue
    const silentMs = Math.max(...those.map((seat) => seat.silentMs ?? 0))
    const time = state === 'silent' ? ` ${those.length === 1 ? 'for' : 'for up to'} ${span(silentMs)}` : ''
    parts.push(`${those.length} ${those.length === 1 ? one : more}${time}`)
  }
  return parts.join(', ')
}
