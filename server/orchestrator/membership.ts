/** Owns who belongs to a live run: newcomers join the stage that needs them most, and who only stands by moves to another. */
import type { Assignment } from '../../src/protocol/control.ts'
import { dismiss } from './departures.ts'
import { isAwaited, mayServe } from './formation.ts'
import { sendStep, voidSums } from './leases.ts'
import { synced } from './owners.ts'
import type { FleetNode, OrchestratorCommand, OrchestratorState, Run } from './types.ts'

type Commands = OrchestratorCommand[]

/** Gives a node its stage in the generation of a run. */
export function assign(
  run: Run,
  node: FleetNode,
  stage: number,
  source: Assignment['source'],
  finish: Assignment['finish'],
  now: number,
  commands: Commands,
): void {
  node.runId = run.id
  node.stage = stage
  node.ready = null
  node.presumedAt = null
  node.loadedFrom = source === 'checkpoint' ? run.checkpoint.step : null
  node.lastProgress = now
  node.busyMs = null
  node.holding = null
  node.open = null
  node.waitingOn = []
  run.members[stage]!.push(node.id)
  if (run.reservations.get(node.deviceId) !== stage) {
    run.reservations.set(node.deviceId, stage)
    commands.push({ type: 'reserve', runId: run.id, deviceId: node.deviceId, stage })
  }
  const { id: runId, name: runName, generation, config, dataset, checkpoint } = run
  const assignment: Assignment = {
    runId,
    runName,
    generation,
    stage,
    config,
    dataset,
    source,
    checkpoint: { step: checkpoint.step, stage: checkpoint.stages[stage]! },
    finish,
  }
  commands.push({ type: 'send', nodeId: node.id, message: { type: 'assign', assignment } })
}

/** Room for volunteers beyond the replicas of a stage: they stand by with its weights. */
const roomFor = (run: Run) => run.config.replicas + Math.max(1, Math.ceil(run.config.replicas / 4))

const isWaiting = (run: Run) => run.members.length === 0 && run.recoverUntil === null && run.state !== 'paused'

/** Takes a free node into a live run, at its own stage if it has one there, else where it is needed most. */
export function admit(state: OrchestratorState, node: FleetNode, now: number, commands: Commands): boolean {
  if (node.runId !== null || node.paused || node.suspect || isAwaited(state, node)) return false
  for (const run of state.runs.values()) {
    if (run.members.length === 0 || !mayServe(run, node) || node.penaltyUntil > now) continue
    const stage = neediest(state, run, node)
    if (stage === null) continue
    join(run, node, stage, now, commands)
    return true
  }
  return false
}

function join(run: Run, node: FleetNode, stage: number, now: number, commands: Commands): void {
  // Where nothing was committed since, the checkpoint is what the others have, moments included.
  const source = run.step === run.checkpoint.step && !run.round?.apply ? 'checkpoint' : 'peers'
  assign(run, node, stage, source, null, now, commands)
  beginWorkAgain(run, node.id, stage)
  sendStep(run, node.id, stage, commands)
  const text = `A volunteer joins stage ${stage + 1} and loads its weights.`
  commands.push({ type: 'tell', runId: run.id, step: run.step, text })
  commands.push({ type: 'runChanged', runId: run.id })
}

/**
 * Who was gone and is back while its work counted has none of it any more. What it makes now are other leases than those that
 * it signed for: its sum need not come out alike.
 */
function beginWorkAgain(run: Run, id: string, stage: number): void {
  const progress = run.round?.stages[stage]
  const work = progress?.work.get(id)
  if (!progress || !work) return
  progress.rejoined.add(id)
  if (run.round!.apply || run.round!.mode !== 'train') return
  work.version += 1
  progress.lost.delete(id)
  progress.pending.add(id)
  voidSums(progress)
}

/**
 * A stage with one replica or none comes first, then one with empty seats, then the one whose volunteers together are
 * slowest, since it limits all. @returns null when every stage that the node can hold is full
 */
function neediest(state: OrchestratorState, run: Run, node: FleetNode): number | null {
  // A run that waits for its first volunteers comes before those who would only stand by for another.
  const room = [...state.runs.values()].some(isWaiting) ? run.config.replicas : roomFor(run)
  const reserved = run.reservations.get(node.deviceId)
  let best: number | null = null
  let need: readonly number[] = []
  for (let stage = 0; stage < run.config.stages; stage++) {
    // Who fell silent keeps its place in case it comes back, and keeps nobody else out meanwhile.
    const count = run.members[stage]!.filter((id) => !state.nodes.get(id)?.suspect).length
    if (count >= room || run.members[stage]!.length >= 2 * room || node.memoryBytes < run.stageBytes[stage]!) continue
    const alone = Math.min(count, 2)
    const seats = Math.min(count, run.config.replicas)
    const home = stage === reserved ? 0 : 1
    const own = [alone, count < run.config.replicas ? home : 1, seats]
    const first = own.findIndex((x, i) => x !== need[i])
    const needier =
      best === null ||
      (first >= 0 ? own[first]! < need[first]! : capacity(state, run, stage) < capacity(state, run, best))
    if (needier) [best, need] = [stage, own]
  }
  return best
}

/** Microbatches a second of a stage, with those not measured yet taken for usual ones. */
function capacity(state: OrchestratorState, run: Run, stage: number): number {
  const times = run.members[stage]!.map((id) => state.nodes.get(id)?.busyMs ?? null)
  const known = times.filter((ms): ms is number => ms !== null && ms > 0).sort((a, b) => a - b)
  const usual = known[known.length >> 1] ?? 1
  return times.reduce<number>((sum, ms) => sum + 1 / (ms !== null && ms > 0 ? ms : usual), 0)
}

/** Moves a standby from a stage with more than its seats to one that lacks some, at most one a call. */
export function balance(state: OrchestratorState, run: Run, now: number, commands: Commands): void {
  if (run.members.length === 0 || run.state === 'preparing' || run.round?.apply) return
  const counts = run.members.map((ids) => ids.length)
  const { replicas } = run.config
  const short = counts.indexOf(Math.min(...counts))
  const long = counts.indexOf(Math.max(...counts))
  const spare = counts[long]! > replicas && counts[short]! < replicas
  // A stage that hangs by one volunteer puts the whole run at risk: one that has three can spare one.
  const rescue = counts[short]! < 2 && counts[long]! > 2
  if (!spare && !rescue) return
  const node = spareOf(state, run, long, ({ memoryBytes }) => memoryBytes >= run.stageBytes[short]!)
  if (!node || !sendAway(state, run, node, `it moves to stage ${short + 1}`, now, commands)) return
  run.reservations.delete(node.deviceId)
  join(run, node, short, now, commands)
}

/** Frees somebody who only stands by, at most one a call, where another run waits for its first volunteers. */
export function lend(state: OrchestratorState, run: Run, now: number, commands: Commands): void {
  if (run.members.length === 0 || run.state === 'preparing' || run.round?.apply) return
  for (const other of state.runs.values()) {
    if (!isWaiting(other)) continue
    const useful = (node: FleetNode) =>
      mayServe(other, node) && other.stageBytes.some((bytes) => node.memoryBytes >= bytes)
    for (const [stage, ids] of run.members.entries()) {
      const node = ids.length > run.config.replicas ? spareOf(state, run, stage, useful) : undefined
      if (!node) continue
      sendAway(state, run, node, 'another run needs it', now, commands)
      return
    }
  }
}

/** Somebody without leases whom its stage can spare: others have its weights, and every moment that it holds. */
function spareOf(
  state: OrchestratorState,
  run: Run,
  stage: number,
  fits: (node: FleetNode) => boolean,
): FleetNode | undefined {
  const others = synced(state, run, stage)
  const id = run.members[stage]!.findLast((id) => {
    const node = state.nodes.get(id)!
    if (run.round?.stages[stage]!.work.has(id) || node.suspect || !fits(node)) return false
    if (!others.some((other) => other.id !== id)) return false
    return run.holders[stage]!.every((holders) => !holders.has(id) || holders.size > 1)
  })
  return id === undefined ? undefined : state.nodes.get(id)
}

function sendAway(
  state: OrchestratorState,
  run: Run,
  node: FleetNode,
  why: string,
  now: number,
  commands: Commands,
): boolean {
  const message = { type: 'release', generation: run.generation, reason: 'needed elsewhere' } as const
  commands.push({ type: 'send', nodeId: node.id, message })
  return dismiss(state, run, node, 'left', why, now, commands)
}
