/** Owns what must hold in the simulation after every event; each check throws a sentence that says what does not. */
import type { OrchestratorCommand, OrchestratorState, Run } from '../../server/orchestrator/types.ts'
import { injectionWindow } from '../../src/stage/schedule.ts'
import type { Reference } from './integerModel.ts'
import type { SimNode } from './node.ts'

export class Violation extends Error {}

export function demand(holds: boolean, sentence: () => string): void {
  if (!holds) throw new Violation(sentence())
}

/** A run as its reference and its commits so far see it. */
export interface Witness {
  readonly reference: Reference
  committed: number
  /** Commits over the run's life, those that were rolled back included. */
  commits: number
  ended: { state: string; valLoss: number | null } | null
}

/** Everything about one command that the reference and the nodes' own books can tell. */
export function checkCommand(
  command: OrchestratorCommand,
  witness: Witness,
  run: Run | undefined,
  nodes: ReadonlyMap<string, SimNode>,
): void {
  switch (command.type) {
    case 'commitStep': {
      const { step, loss, gradNorm } = command.metric
      const { reference } = witness
      demand(step === witness.committed + 1, () => `step ${step} commits after step ${witness.committed}`)
      demand(loss === reference.losses[step], () => `step ${step}: loss ${loss}, alone ${reference.losses[step]}`)
      const alone = reference.gradNorms[step]
      demand(gradNorm === alone, () => `step ${step}: gradient norm ${gradNorm}, alone ${alone}`)
      checkSums(step, run!, nodes)
      witness.committed = step
      witness.commits += 1
      return
    }
    case 'rollBack':
      demand(command.toStep < witness.committed, () => `back to ${command.toStep} from ${witness.committed}`)
      witness.committed = command.toStep
      return
    case 'runEnded':
      demand(witness.ended === null, () => `run ${command.runId} ends twice`)
      witness.ended = command
      if (command.state !== 'finished') return
      demand(witness.committed === witness.reference.losses.length - 1, () => `finished at step ${witness.committed}`)
      demand(
        command.valLoss === witness.reference.valLoss,
        () => `validation loss ${command.valLoss}, alone ${witness.reference.valLoss}`,
      )
  }
}

/** Every microbatch is in exactly one sum of each stage. */
function checkSums(step: number, run: Run, nodes: ReadonlyMap<string, SimNode>): void {
  const microbatches = run.config.batch / run.config.microbatch
  run.members.forEach((ids, stage) => {
    const tenures = ids.map((id) => nodes.get(id)?.tenure)
    // A member that died after it reported took its books along.
    if (tenures.some((tenure) => !tenure)) return
    const summed = tenures.flatMap((tenure) => tenure!.summed).sort((a, b) => a - b)
    const whole = summed.length === microbatches && summed.every((m, i) => m === i)
    demand(whole, () => `step ${step}, stage ${stage}: the sums hold microbatches ${summed.join()}`)
  })
}

export function checkServer(state: OrchestratorState): void {
  const seated = new Map<string, string>()
  for (const run of state.runs.values()) {
    for (const id of run.members.flat()) {
      demand(!seated.has(id), () => `node ${id} sits twice`)
      seated.set(id, run.id)
      demand(state.nodes.get(id)?.runId === run.id, () => `member ${id} of ${run.id} does not belong to it`)
    }
    demand((run.state === 'waiting') === (run.members.length === 0), () => `run ${run.id} is ${run.state} with members`)
    if (run.state === 'preparing')
      demand(run.step === run.checkpoint.step, () => `run ${run.id} prepares for step ${run.step} from elsewhere`)
  }
  for (const node of state.nodes.values())
    if (node.runId) demand(seated.get(node.id) === node.runId, () => `node ${node.id} belongs to a run without a seat`)
}

/** Nothing may pile up in a node, whatever the others do. */
export function checkNode({ id, machine }: SimNode): void {
  const { assignment, current, early } = machine
  if (!assignment) return demand(early.length === 0, () => `node ${id} keeps frames without an assignment`)
  const { members, stage } = assignment
  const stages = members.length
  const replicas = members[stage]!.length
  const upstream = stage > 0 ? members[stage - 1]!.length * injectionWindow(stage - 1, stages) : 0
  const ahead = Math.max(64, upstream) + replicas
  demand(early.length <= ahead, () => `node ${id} keeps ${early.length} early frames`)
  if (!current || current.mode === 'evaluate') return
  const window = stage === stages - 1 ? Infinity : injectionWindow(stage, stages)
  const { activations, gradients, forwarded, finished, contributions } = current
  demand(activations.size <= upstream, () => `node ${id} keeps ${activations.size} activations`)
  demand(gradients.size <= window, () => `node ${id} keeps ${gradients.size} gradients`)
  demand(forwarded.size - finished.size <= window, () => `node ${id} is ${forwarded.size - finished.size} ahead`)
  demand(contributions.size <= replicas, () => `node ${id} keeps ${contributions.size} contributions`)
}
