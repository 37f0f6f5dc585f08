/** Owns the bounds of what a node and the server may keep, and the shape of the server's books, whatever the others do. */
import type { OrchestratorState } from '../../server/orchestrator/types.ts'
import { inFlightRoom, microbatchesInFlight } from '../../src/model/memory.ts'
import { stepMicrobatches } from '../../src/protocol/lanes.ts'
import { demand } from './invariants.ts'
import type { SimNode } from './node.ts'

/** Control messages that wait at one end of a session. */
const MOST_PENDING = 1000

/** Nothing may pile up in a node, whatever the others do. */
export function checkNode({ id, machine, memoryBytes, pending }: SimNode): void {
  const { assignment, current, early, writes, momentWrites, reads } = machine
  demand(pending <= MOST_PENDING, () => `node ${id} has ${pending} control messages under way`)
  if (!assignment) return demand(early.size === 0, () => `node ${id} keeps frames without an assignment`)
  const { config, stage } = assignment
  const microbatches = stepMicrobatches(config)
  const most = 4 * microbatches + 64 * config.replicas
  demand(early.size <= most, () => `node ${id} keeps ${early.size} early frames`)
  demand(writes.length <= 64 && momentWrites.length <= 64, () => `node ${id} has ${writes.length} writes under way`)
  demand(reads.size <= 4096, () => `node ${id} reads ${reads.size} shards for others`)
  if (!current) return
  const { leases, lanes, strays, forwards, backwards, shards } = current
  const table = current.mode === 'train' ? microbatches : 4096
  demand(leases.size <= table, () => `node ${id} has ${leases.size} leases of ${table} microbatches`)
  demand(forwards.length + backwards.length <= 2 * leases.size, () => `node ${id} queues more than its leases`)
  demand(strays.size <= 4096, () => `node ${id} remembers ${strays.size} strays`)
  const windowed = current.mode === 'train' && stage < config.stages - 1 && !current.revoked
  if (windowed) {
    for (const { started, done } of lanes ? lanes.values() : [current])
      demand(started - done <= current.window, () => `node ${id} is ${started - done} ahead`)
    const least = microbatchesInFlight(config, { stage, hasHead: false })
    const most = current.window > least ? inFlightRoom(config, stage, memoryBytes, false).most : least
    demand(current.window >= least && current.window <= most, () => `node ${id} may be ${current.window} ahead`)
  }
  for (const { contributions } of shards)
    demand(contributions.size <= 1024, () => `node ${id} keeps ${contributions.size} shares`)
}

export function checkServer(state: OrchestratorState): void {
  const seated = new Map<string, string>()
  for (const run of state.runs.values()) {
    for (const id of run.members.flat()) {
      demand(!seated.has(id), () => `node ${id} sits twice`)
      seated.set(id, run.id)
      demand(state.nodes.get(id)?.runId === run.id, () => `member ${id} of ${run.id} does not belong to it`)
    }
  }
  for (const node of state.nodes.values())
    if (node.runId) demand(seated.get(node.id) === node.runId, () => `node ${node.id} belongs to a run without a seat`)
}
