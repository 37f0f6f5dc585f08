/**
 * Owns how many microbatches each node may have in flight: enough that neither the stages behind it nor their links leave it
 * idle, and no more than its memory is worth.
 *
 * 1F1B's window (Narayanan et al. 2021, PipeDream-Flush) is the depth of the pipeline, which hides no link's latency. What is
 * in flight is the rate times the round trip (Little 1961), so that a slower link asks for more of it.
 */
import { boundaryBytes } from '../../src/codec/boundary.ts'
import { estimateStageMemory, inFlightRoom, microbatchesInFlight, microbatchRows, type InFlightRoom } from '../../src/model/memory.ts' // prettier-ignore
import { laneMicrobatches, updateConfig, updateMicrobatches } from '../../src/protocol/lanes.ts'
import type { RunConfig } from '../../src/protocol/runConfig.ts'
import type { StageProgress } from './round.ts'
import type { FleetNode, LinkTime, OrchestratorState } from './types.ts'

/** Of a microbatch's work, forward and backward together, what a second forward adds. */
const RECOMPUTED = 1 / 3

/** Of a microbatch. */
const NOISE = 0.25

export interface InjectionProblem {
  /** What 1F1B needs without links: never less. */
  readonly least: number
  /** Milliseconds from one microbatch to the next at the pace of whoever limits the run. */
  readonly intervalMs: number
  /** Milliseconds that a microbatch keeps this device busy, forward and backward together. */
  readonly busyMs: number
  /** Milliseconds from the start of a microbatch's forward to the end of its backward, where it waits for nobody. */
  readonly roundTripMs: number
  /** Asked only when more than `least` would help. */
  readonly room: () => InFlightRoom
}

/** The smallest window at which a microbatch takes least, all of waiting and computing again considered. */
export function injectionWindow({ least, intervalMs, busyMs, roundTripMs, room }: InjectionProblem): number {
  // One more than the rate needs: no two microbatches take just as long. A part of one that is no more than noise adds none.
  const wanted = Math.ceil(roundTripMs / intervalMs - NOISE) + 1
  if (intervalMs <= 0 || wanted <= least) return least
  const { kept, most } = room()
  const cost = (window: number) => {
    const recomputed = Math.max(0, 1 - kept / window)
    return Math.max(intervalMs, roundTripMs / (window - 1), busyMs * (1 + RECOMPUTED * recomputed))
  }
  let best = least
  for (let window = least + 1; window <= Math.min(wanted, most); window++) if (cost(window) < cost(best)) best = window
  return best
}

/** Gives everybody with leases the window that suits a round with these owners. */
export function openWindows(state: OrchestratorState, config: RunConfig, stages: readonly StageProgress[]): void {
  const bytes = boundaryBytes(config, microbatchRows(config))
  const busyMs = (id: string) => state.nodes.get(id)?.busyMs ?? 0
  // The round lasts as long as whoever has most to compute, or to send.
  let roundMs = 0
  for (const { work } of stages)
    for (const [id, { microbatches }] of work) roundMs = Math.max(roundMs, microbatches.size * busyMs(id))
  for (const ms of sendingMs(state, stages, bytes).values()) roundMs = Math.max(roundMs, ms)

  const last = stages.length - 1
  /** By place: milliseconds from a microbatch's forward at the stage at hand to the end of its backward there. */
  let roundTrips: number[] = []
  for (let stage = last; stage >= 0; stage--) {
    const { owner, work } = stages[stage]!
    const behind = stages[stage + 1]?.owner
    const before = roundTrips
    roundTrips = owner.map((id, place) => {
      if (!behind) return busyMs(id)
      const [here, there] = [state.nodes.get(id), state.nodes.get(behind[place]!)]
      return busyMs(id) + crossingMs(here, there, bytes) + crossingMs(there, here, bytes) + before[place]!
    })
    if (stage === last) continue
    const least = leastWindow(config, stage)
    for (const [id, held] of work) {
      const count = held.microbatches.size
      let sum = 0
      for (const place of held.microbatches) sum += roundTrips[place]!
      const { memoryBytes, adapter } = state.nodes.get(id)!
      // A lane that takes steps of its own has a window of its own, and all lanes of a node may have some in flight.
      const local = config.sync === 'local'
      const lanes = local ? Math.max(1, count / laneMicrobatches(config)) : 1
      const room = () => laneRoom(config, stage, memoryBytes, lanes, adapter.software)
      const problem = { least, busyMs: busyMs(id), intervalMs: roundMs / count, roundTripMs: sum / count, room }
      // Leases of others may come to it, so that fewer of its own are no reason for less.
      const most = local ? updateMicrobatches(config) : count
      held.window = Math.max(least, Math.min(most, injectionWindow(problem)))
    }
  }
}

/** The room of each of `lanes` that part evenly what a device has beyond the least. */
function laneRoom(run: RunConfig, stage: number, memoryBytes: number, lanes: number, software: boolean): InFlightRoom {
  const config = updateConfig(run)
  const { total } = estimateStageMemory(config, stage)
  return inFlightRoom(config, stage, total + (memoryBytes - total) / lanes, software)
}

/** The window of a stage whose links take no time, or are not measured. */
export function leastWindow(config: RunConfig, stage: number): number {
  return microbatchesInFlight(config, { stage, hasHead: stage === config.stages - 1 })
}

/** By node: milliseconds for which its boundary tensors of the round, both ways, occupy its links. */
function sendingMs(state: OrchestratorState, stages: readonly StageProgress[], bytes: number): Map<string, number> {
  const sending = new Map<string, number>()
  const add = (from: string, to: string) => {
    const ms = sendMs(state.nodes.get(from)?.links.get(to), bytes)
    if (ms > 0) sending.set(from, (sending.get(from) ?? 0) + ms)
  }
  for (let stage = 1; stage < stages.length; stage++)
    stages[stage]!.owner.forEach((id, place) => {
      const before = stages[stage - 1]!.owner[place]!
      add(before, id)
      add(id, before)
    })
  return sending
}

/** Milliseconds that `bytes` take from one node to another; 0 while neither has measured their link. */
function crossingMs(from: FleetNode | undefined, to: FleetNode | undefined, bytes: number): number {
  if (!from || !to) return 0
  const [own, others] = [from.links.get(to.id), to.links.get(from.id)]
  // Nobody alone can claim that a link is slow, so as to have others keep more in flight.
  const rttMs = Math.min(own?.rttMs ?? Infinity, others?.rttMs ?? Infinity)
  return rttMs === Infinity ? 0 : rttMs / 2 + sendMs(own, bytes)
}

const sendMs = (link: LinkTime | undefined, bytes: number) => (link?.bytesPerMs ? bytes / link.bytesPerMs : 0)
