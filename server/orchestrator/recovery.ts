/** Owns how a run goes on under a server that was started again: from what its nodes hold, if together they hold it all. */
import type { Holding } from '../../src/protocol/control.ts'
import { shardCount } from '../../src/protocol/routing.ts'
import { giveUpSaving } from './checkpoints.ts'
import { announceCredit, bookCredit } from './credit.ts'
import { nextGeneration, rollBackWhenDue } from './generations.ts'
import { assign } from './membership.ts'
import { chooseOwners } from './owners.ts'
import type { FleetNode, OrchestratorCommand, OrchestratorState, Run } from './types.ts'

type Commands = OrchestratorCommand[]

/** Once enough are back, the others get this long to come as well, so that fewer have to load anything. */
const STRAGGLERS_MS = 2000

/**
 * Looks whether the nodes that came back hold the whole run at the last committed step, or at the one that was being applied.
 * @returns true when the run may be formed from its checkpoint instead, or goes on already; false while it waits
 */
export function recover(state: OrchestratorState, run: Run, now: number, commands: Commands): boolean {
  const back = [...state.nodes.values()].filter(
    ({ holding, suspect, paused, runId }) =>
      holding?.runId === run.id && holding.generation === run.generation && !suspect && !paused && runId === null,
  )
  const step = heldStep(run, back)
  if (step === null) {
    if (now < run.recoverUntil!) {
      say(run, `Waiting for the volunteers that were here: ${back.length} are back.`, commands)
      return false
    }
    run.recoverUntil = null
    rollBackWhenDue(run, commands)
    return true
  }
  run.runnableSince ??= now
  const expected = run.reservations.size
  const patient = now < Math.min(run.recoverUntil!, run.runnableSince + STRAGGLERS_MS)
  if (back.length < expected && patient) return false
  resume(state, run, back, step, now, commands)
  return true
}

function say(run: Run, text: string, commands: Commands): void {
  if (run.detail === text) return
  run.detail = text
  commands.push({ type: 'runChanged', runId: run.id })
}

/** The step that these nodes hold whole: all parameters of each stage with one of them, all moments with some. */
function heldStep(run: Run, back: readonly FleetNode[]): number | null {
  const { unapplied } = run
  const applying = unapplied?.generation === run.generation && unapplied.metric.step === run.step + 1
  if (applying && holdsWhole(run, back, run.step + 1)) return run.step + 1
  return holdsWhole(run, back, run.step) ? run.step : null
}

function holdsWhole(run: Run, back: readonly FleetNode[], step: number): boolean {
  for (let stage = 0; stage < run.config.stages; stage++) {
    const here = back.filter(({ holding }) => holding!.stage === stage)
    for (let shard = 0; shard < shardCount(run.config); shard++) {
      if (!here.some((node) => holdsShard(run.step, node, shard, step))) return false
    }
    // At the step before `apply` nobody's parameters have changed; after it every shard's owner has the new ones.
    if (step === run.step && !here.some(({ holding }) => holding!.step === step)) return false
  }
  return true
}

/** Whether a node has, or needs only the word to have, a shard's moments as they stand after `step`. */
function holdsShard(committed: number, { holding }: FleetNode, shard: number, step: number): boolean {
  const stands = (after: number) => holding!.moments.some(([s, at]) => s === shard && at === after)
  return stands(step) || (step === committed + 1 && holding!.reduced.includes(shard) && stands(committed))
}

function resume(
  state: OrchestratorState,
  run: Run,
  back: readonly FleetNode[],
  step: number,
  now: number,
  commands: Commands,
): void {
  const { unapplied, step: committed } = run
  const finishing = step > committed
  if (finishing) {
    run.step = step
    // What the work of that step earns was settled before it could be applied, and written down with it.
    const { metric, work } = unapplied!
    bookCredit(run, work)
    const claims = { attested: 0, unattested: 0, disputed: 0 }
    commands.push({ type: 'commitStep', runId: run.id, metric, work, claims })
    announceCredit(state, run, step, { work: [...work], refused: [], disputes: [] }, commands)
  }
  run.unapplied = null
  nextGeneration(state, run, now, commands)
  const finish = finishing ? { step, lr: unapplied!.lr, scale: unapplied!.scale } : null
  // Who holds the step whole comes first, and of those whoever knows that it is over: the others take the parameters from the
  // first owners.
  const whole = (node: FleetNode) => (node.holding!.step === step ? 0 : 1)
  // What a node finishes by itself now is as open as what it had made before.
  const openOf = ({ open, reduced }: Holding) => new Set(finishing ? [...open, ...reduced] : open)
  const open = new Map(back.map(({ id, holding }) => [id, openOf(holding!)]))
  const sorted = [...back].sort((a, b) => whole(a) - whole(b) || open.get(a.id)!.size - open.get(b.id)!.size)
  for (const node of sorted) {
    const { holding } = node
    const { stage } = holding!
    if (stage >= run.config.stages) continue
    for (let shard = 0; shard < shardCount(run.config); shard++) {
      if (holdsShard(committed, node, shard, step)) run.holders[stage]![shard]!.set(node.id, step)
    }
    const complete = holding!.step === step
    assign(run, node, stage, 'held', finish, now, commands)
    // Whoever holds the step whole has nothing to load; the others take it from the owners as the next step begins.
    node.open = open.get(node.id)!
    if (!complete && !finishing) continue
    node.ready = step
    node.presumedAt = Infinity
  }
  for (let stage = 0; stage < run.config.stages; stage++) run.owners[stage] = chooseOwners(state, run, stage, now) ?? []
  const who = back.length === 1 ? '1 volunteer' : `${back.length} volunteers`
  const text = `The server is back, and ${who} with it; nothing after step ${step} was lost.`
  commands.push({ type: 'tell', runId: run.id, step, text })
}

/**
 * Begins a step again in a new generation, from what everybody holds: nothing that was committed is lost, and everybody may
 * take part. @returns false once the step is being applied, when what is held differs
 */
export function beginAgain(
  state: OrchestratorState,
  run: Run,
  reason: string,
  now: number,
  commands: Commands,
): boolean {
  const { members, holders, owners, round } = run
  if (!round || round.apply || round.mode !== 'train') return false
  if (run.saving && !run.saving.publishing) giveUpSaving(run, 'The checkpoint under way was left off.', now, commands)
  nextGeneration(state, run, now, commands)
  run.round = null
  run.holders = holders
  run.owners = owners
  members.forEach((ids, stage) => {
    for (const id of ids) {
      const node = state.nodes.get(id)!
      const { ready, busyMs, loadedFrom, presumedAt } = node
      assign(run, node, stage, ready === null && loadedFrom !== run.step ? 'peers' : 'held', null, now, commands)
      node.ready = ready === null ? null : run.step
      node.presumedAt = ready === null ? null : (presumedAt ?? Infinity)
      node.busyMs = busyMs
    }
  })
  commands.push({ type: 'tell', runId: run.id, step: run.step, text: `${reason} Step ${run.step + 1} begins again.` })
  return true
}
