/** Owns the leases of a round: who computes which microbatch at which stage, and how they move when somebody is lost. */
import type { LeaseTable, ServerMessage } from '../../src/protocol/control.ts'
import { leastWindow, openWindows } from './injection.ts'
import { synced } from './owners.ts'
import { leasedTogether, routesOf, speeds } from './routes.ts'
import type { Round, StageProgress } from './round.ts'
import type { FleetNode, OrchestratorCommand, OrchestratorState, RecoveryCause, Run } from './types.ts'

type Commands = OrchestratorCommand[]

/**
 * Opens a round: every microbatch has its owner at each stage.
 * @returns null when some stage has nobody who could take leases now
 */
export function newRound(
  state: OrchestratorState,
  run: Run,
  what: Pick<Round, 'step' | 'mode' | 'first' | 'microbatches'>,
  now: number,
): Round | null {
  const routes = routesOf(state, run, what, now)
  if (!routes) return null
  const stages = routes.map(({ nodes, owner }, stage) => {
    const shards = run.owners[stage]!.length
    const progress: StageProgress = {
      owner,
      work: new Map(),
      revoked: new Map(),
      receipts: new Map(),
      rejoined: new Set(),
      pending: new Set(owner),
      solo: soleOwner(run, stage),
      unoffered: new Set(),
      audits: new Map(),
      wholeAt: null,
      tallies: new Map(),
      orphans: [],
      halfAt: null,
      slow: 0,
      contributors: null,
      advanced: new Map(),
      ahead: null,
      lost: new Set(),
      missing: new Map(),
      bereft: new Map(),
      waived: new Array<boolean>(shards).fill(false),
      movedAt: now,
      attempt: 0,
      norms: Array.from({ length: shards }, () => new Map<string, number>()),
      updated: new Array<boolean>(shards).fill(false),
      compared: new Array<boolean>(shards).fill(false),
    }
    const devices = new Map(nodes.map(({ id, deviceId }) => [id, deviceId]))
    owner.forEach((id, place) => {
      let work = progress.work.get(id)
      if (!work) {
        const device = devices.get(id)!
        const none = { finished: 0, losses: [], since: now, added: 0 }
        work = { device, version: 1, microbatches: new Set(), window: leastWindow(run.config, stage), ...none }
        progress.work.set(id, work)
      }
      work.microbatches.add(place)
      work.added += 1
    })
    return progress
  })
  openWindows(state, run.config, stages)
  return { ...what, startedAt: now, movedAt: now, stages, apply: null, prepared: false }
}

function soleOwner({ owners }: Run, stage: number): string | null {
  const all = new Set(owners[stage]!.flat())
  return all.size === 1 ? [...all][0]! : null
}

function tableOf(round: Round, stage: number, nodeId: string): LeaseTable & { version: number } {
  const work = round.stages[stage]!.work.get(nodeId)
  const peers: string[] = []
  const places = new Map<string, number>()
  const placeOf = (id: string | undefined) => {
    if (id === undefined || id === '') return -1
    let place = places.get(id)
    if (place === undefined) {
      place = peers.push(id) - 1
      places.set(id, place)
    }
    return place
  }
  const leases: [number, number, number][] = []
  if (work) {
    const up = round.stages[stage - 1]?.owner
    const down = round.stages[stage + 1]?.owner
    for (const place of [...work.microbatches].sort((a, b) => a - b))
      leases.push([round.first + place, placeOf(up?.[place]), placeOf(down?.[place])])
  }
  return { version: work?.version ?? 0, peers, leases }
}

/** Tells one node of a stage what the round under way asks of it. */
export function sendStep(run: Run, nodeId: string, stage: number, commands: Commands): void {
  const { round, generation } = run
  if (!round) return
  const { step, mode } = round
  const owners = run.owners[stage]!
  const message: ServerMessage = {
    type: 'step',
    generation,
    step,
    mode,
    ...tableOf(round, stage, nodeId),
    owners,
    committed: run.step,
    window: round.stages[stage]!.work.get(nodeId)?.window ?? leastWindow(run.config, stage),
  }
  commands.push({ type: 'send', nodeId, message })
}

function sendLeases(run: Run, nodeId: string, stage: number, commands: Commands): void {
  // Whoever was lost there may be back at another stage by now.
  if (!run.members[stage]!.includes(nodeId)) return
  const { generation } = run
  const { step } = run.round!
  const message: ServerMessage = { type: 'leases', generation, step, ...tableOf(run.round!, stage, nodeId) }
  commands.push({ type: 'send', nodeId, message })
}

function isThere(state: OrchestratorState, run: Run, stage: number, id: string): boolean {
  return run.members[stage]!.includes(id) && state.nodes.get(id)?.suspect === false
}

/** Who of the stage could take leases over in this round: those without any first. */
function takers(state: OrchestratorState, run: Run, stage: number, but: string): FleetNode[] {
  const { revoked } = run.round!.stages[stage]!
  // The sum of a revoked node may hold what others have computed again: it stays out of the whole step.
  return synced(state, run, stage).filter(({ id }) => id !== but && !revoked.has(id))
}

/**
 * Moves every lease of one node to others of its stage and shuts it out of the round; neighbours hear who their new partners
 * are. Sums that were asked for are void, for they would miss what moves.
 * @returns how many leases moved; 0 when it had none, or when nobody can take them
 */
export function moveLeases(
  state: OrchestratorState,
  run: Run,
  stage: number,
  nodeId: string,
  cause: RecoveryCause,
  now: number,
  commands: Commands,
): number {
  const { round } = run
  const progress = round?.stages[stage]
  const work = progress?.work.get(nodeId)
  // What is being applied is summed already: whose work it was does not change any more.
  if (!round || !progress || !work || round.apply) return 0
  const others = takers(state, run, stage, nodeId)
  const here = run.members[stage]!.includes(nodeId)
  // Somebody who is only silent or slow keeps what nobody else can take.
  if (others.length === 0 && here) return 0
  progress.work.delete(nodeId)
  progress.pending.delete(nodeId)
  progress.revoked.set(nodeId, work.microbatches)
  voidSums(progress)
  const places = [...work.microbatches]
  if (here) {
    const message: ServerMessage = { type: 'revoked', generation: run.generation, step: round.step }
    commands.push({ type: 'send', nodeId, message })
  }
  for (const place of places) progress.owner[place] = ''
  progress.orphans.push(...places)
  if (others.length > 0) adopt(state, run, stage, now, commands)
  commands.push({ type: 'recovered', runId: run.id, leases: places.length, cause })
  run.recovered += places.length
  return places.length
}

/** Leases have changed hands: sums that were asked for would miss what they are to hold. */
export function voidSums(progress: StageProgress): void {
  progress.contributors = null
  progress.ahead = null
  progress.wholeAt = null
}

/** Gives microbatches without an owner to whoever of the stage has least to do. @returns whether anything was given */
export function adopt(state: OrchestratorState, run: Run, stage: number, now: number, commands: Commands): boolean {
  const round = run.round!
  const progress = round.stages[stage]!
  if (progress.orphans.length === 0) return false
  const nodes = takers(state, run, stage, '')
  if (nodes.length === 0) return false
  const rates = speeds(nodes)
  // How far the others are is not known one by one; by the time that a step takes they should be this far.
  const left = Math.max(0.1, 1 - (now - round.startedAt) / (run.usualMs ?? 2 * (now - round.startedAt) + 1))
  const loads = nodes.map(({ id }, i) => {
    const work = progress.work.get(id)
    // What is finished already has to be added up anew when more comes: who has nothing yet is the better choice.
    return (work ? (progress.pending.has(id) ? left * work.microbatches.size : 1) : 0) / rates[i]!
  })
  const changed = new Set<string>()
  const unit = leasedTogether(run, round)
  // Orphans are whole lanes, as leases are: the first of each chooses for all.
  let best = 0
  for (const place of progress.orphans.sort((a, b) => a - b)) {
    if (place % unit === 0) {
      best = 0
      const loadWith = (i: number) => loads[i]! + unit / rates[i]!
      for (let i = 1; i < nodes.length; i++) if (loadWith(i) < loadWith(best)) best = i
      loads[best]! += unit / rates[best]!
    }
    const { id, deviceId } = nodes[best]!
    progress.owner[place] = id
    let work = progress.work.get(id)
    if (!work) {
      const window = leastWindow(run.config, stage)
      const held = { microbatches: new Set<number>(), window, finished: 0, losses: [] }
      work = { device: deviceId, version: 0, ...held, since: now, added: 0 }
      progress.work.set(id, work)
    }
    if (!changed.has(id)) {
      work.version += 1
      work.since = now
      work.added = 0
      changed.add(id)
    }
    work.added += 1
    work.microbatches.add(place)
    progress.pending.add(id)
  }
  const moved = progress.orphans
  progress.orphans = []
  voidSums(progress)
  for (const id of changed) sendLeases(run, id, stage, commands)
  progress.movedAt = now
  for (const other of [stage - 1, stage + 1]) {
    const owner = round.stages[other]?.owner
    if (!owner) continue
    // Whoever computes a microbatch again needs its neighbours' tensors; those of a node that is gone went with it.
    for (const place of moved) {
      const id = owner[place]!
      if (id && !isThere(state, run, other, id)) moveLeases(state, run, other, id, 'silent', now, commands)
    }
    const neighbours = new Set(moved.map((place) => owner[place]!).filter(Boolean))
    for (const id of neighbours) sendLeases(run, id, other, commands)
  }
  return true
}
