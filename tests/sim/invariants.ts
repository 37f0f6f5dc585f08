/** Owns what must hold in the simulation; each check throws a sentence that says what does not. */
import type { Round } from '../../server/orchestrator/round.ts'
import type { OrchestratorCommand, OrchestratorState, Run, RunSubmission } from '../../server/orchestrator/types.ts'
import type { ClientMessage, StageCheckpoint } from '../../src/protocol/control.ts'
import { checkNode, checkServer } from './bounds.ts'
import { checkCredit } from './credited.ts'
import { sameFrom, sameIn, VECTORS } from './integerModel.ts'
import type { SimNode } from './node.ts'
import type { Reference } from './reference.ts'
import { lostStage } from './survivors.ts'
import type { Action, Tenure } from './tenure.ts'
import type { World } from './world.ts'

export class Violation extends Error {}

export function demand(holds: boolean, sentence: () => string): asserts holds {
  if (!holds) throw new Violation(sentence())
}

/** Its last update was made of a share that was signed for otherwise: its owner was deceived, and gets the other one's bytes. */
const isForged = ({ updates }: Tenure, shard: number) => updates[shard]?.shares.some(({ forged }) => forged) ?? false

/** A run as its reference and its commits so far see it. */
export interface Witness {
  readonly reference: Reference
  committed: number
  /** Commits over the run's life, those that were rolled back included. */
  commits: number
  rollbacks: number
  ended: { state: string; valLoss: number | null } | null
  /** When its first step began. */
  startedAt: number | null
  lastCommitAt: number
  /** Since when it could go on without a commit having come. */
  waitingSince: number
  /** The generation in which a step last began. */
  generation: number
  /** The last round under way: of a step that a restart cut off after its write-ahead record, the one before it. */
  round: Round | null
  /** What the server knew of who holds which moments in that round. */
  holders: readonly (readonly ReadonlyMap<string, number>[])[]
  /** The server died since that round began: what nodes had cached of it is dropped. */
  restarted: boolean
  /** The last generation in which an owner lied: the server may go back then, and what it wrote is not looked at. */
  liedIn: number
}

export class Watch {
  readonly witnesses = new Map<string, Witness>()
  /** By stage: microbatches that were taken backward, on whatever node. */
  readonly backwards: number[] = []
  /** By node: its device. */
  readonly devices = new Map<string, string>()
  /** Nodes that sign what is not so. */
  readonly forgers = new Set<string>()
  /** Devices of nodes that lie about their work, or about that of others. */
  readonly liars = new Set<string>()
  /** Microbatches of committed steps, counted at each stage, for which nobody is credited. */
  uncredited = 0
  readonly #world: World

  constructor(world: World) {
    this.#world = world
  }

  expect(runId: string, reference: Reference): void {
    this.witnesses.set(runId, {
      reference,
      committed: 0,
      commits: 0,
      rollbacks: 0,
      ended: null,
      startedAt: null,
      lastCommitAt: 0,
      waitingSince: 0,
      generation: 0,
      round: null,
      holders: [],
      restarted: false,
      liedIn: -1,
    })
  }

  ended(runId: string): boolean {
    return this.witnesses.get(runId)!.ended !== null
  }

  allEnded(): boolean {
    for (const { ended } of this.witnesses.values()) if (!ended) return false
    return true
  }

  before(state: OrchestratorState): void {
    for (const run of state.runs.values()) {
      const witness = this.witnesses.get(run.id)!
      if (run.round) {
        witness.round = run.round
        witness.holders = run.holders
        witness.restarted = false
        witness.startedAt ??= this.#world.clock.now
        witness.generation = run.generation
      }
    }
  }

  server(state: OrchestratorState): void {
    if (this.#world.options.strict) checkServer(state)
    const { now } = this.#world.clock
    const { progressMs } = this.#world.options
    for (const run of state.runs.values()) {
      const witness = this.witnesses.get(run.id)!
      const waited = now - Math.max(witness.lastCommitAt, witness.waitingSince)
      if (witness.ended || waited <= progressMs) continue
      demand(
        this.#able().length < run.config.stages,
        () => `no commit for ${Math.round(waited / 1000)} s: ${run.detail}`,
      )
      witness.waitingSince = now
    }
  }

  /** A server that starts again goes on from what was durable: nothing that was committed is missing in it. */
  restarted(run: RunSubmission): void {
    const witness = this.witnesses.get(run.id)!
    const { committed } = witness
    witness.restarted = true
    demand(run.step === committed, () => `the server starts again at step ${run.step}, committed was ${committed}`)
  }

  node(node: SimNode): void {
    checkNode(node)
  }

  report(node: SimNode, message: ClientMessage): void {
    const { tenure } = node
    if (!tenure) return
    const { stage, runId } = tenure.assignment
    const vectors = () => this.witnesses.get(runId)!.reference.vectors[(message as { step: number }).step]?.[stage]
    if (message.type === 'ready')
      for (const [shard, range] of tenure.ranges.entries()) {
        // Who finished a step after a restart is ready for the next one while other shards are still to come.
        if (tenure.assignment.finish?.step === message.step && node.machine.parameters[shard] !== message.step) continue
        demand(
          sameIn(range, vectors()!.parameters, tenure.vectors.parameters),
          () => `${node.id} is ready after step ${message.step} with a false shard ${shard} of stage ${stage}`,
        )
      }
    else if (message.type === 'held')
      this.#same(node, tenure, ['firstMoment', 'secondMoment'], message.shard, message.step)
    else if (message.type === 'shardSaved')
      for (const { kind, offset, hash } of message.chunks)
        demand(
          sameFrom(vectors()![kind], offset, this.#world.get(hash)),
          () => `${node.id} saves a false ${kind} of stage ${stage} at ${offset} for step ${message.step}`,
        )
  }

  /** What a node writes into its vectors is at once what one machine has, unless somebody may lie. */
  worked(node: SimNode, tenure: Tenure, action: Action): void {
    const { runId, stage, generation } = tenure.assignment
    const witness = this.witnesses.get(runId)!
    if (action.type === 'compute') {
      if (action.op.toLowerCase().includes('backward')) this.backwards[stage] = (this.backwards[stage] ?? 0) + 1
      return
    }
    if (tenure.falsehood && (action.type === 'reduce' || action.type === 'update')) witness.liedIn = generation
    if (generation <= witness.liedIn || (action.type === 'update' && isForged(tenure, action.shard))) return
    if (action.type === 'writeParameters') this.#same(node, tenure, ['parameters'], action.shard, action.step)
    else if (action.type === 'writeMoments')
      this.#same(node, tenure, ['firstMoment', 'secondMoment'], action.shard, action.step)
    else if (action.type === 'update') this.#same(node, tenure, VECTORS, action.shard, action.step)
  }

  /** Everything about one command that the reference and the nodes' own books can tell. */
  command(command: OrchestratorCommand, run: Run | undefined): void {
    if (command.type === 'send' || command.type === 'disconnect') return
    const witness = this.witnesses.get(command.runId)!
    const { reference, committed } = witness
    switch (command.type) {
      case 'commitStep': {
        const { step, loss, gradNorm } = command.metric
        demand(step === committed + 1, () => `step ${step} commits after step ${committed}`)
        demand(loss === reference.losses[step], () => `step ${step}: loss ${loss}, alone ${reference.losses[step]}`)
        const alone = reference.gradNorms[step]
        demand(gradNorm === alone, () => `step ${step}: gradient norm ${gradNorm}, alone ${alone}`)
        this.#sums(command.runId, step, witness.round, run!.generation)
        checkCredit(command, run!, witness.round!, this)
        witness.committed = step
        witness.commits += 1
        witness.lastCommitAt = this.#world.clock.now
        return
      }
      case 'rollBack': {
        demand(command.toStep < committed, () => `back to ${command.toStep} from ${committed}`)
        const why = this.#excuse(command.runId, witness)
        demand(
          why !== null,
          () => `back to ${command.toStep} from ${committed} though nothing was lost: ${run?.detail}`,
        )
        if (this.#world.trace) this.#world.note('rolled back', { type: why! })
        witness.committed = command.toStep
        witness.rollbacks += 1
        return
      }
      case 'publishCheckpoint':
        for (const stage of command.stages) this.#whole(command.step, stage, reference)
        return
      case 'runEnded':
        demand(witness.ended === null, () => `run ${command.runId} ends twice`)
        witness.ended = command
        if (command.state !== 'finished') return
        demand(committed === reference.losses.length - 1, () => `finished at step ${committed}`)
        demand(
          command.valLoss === reference.valLoss,
          () => `validation loss ${command.valLoss}, alone ${reference.valLoss}`,
        )
    }
  }

  #excuse(runId: string, witness: Witness): string | null {
    if (witness.liedIn >= witness.generation) return 'an owner lied'
    if (this.#world.network.dead()) return 'a link is dead'
    return lostStage(this.#world, runId, witness)
  }

  /** Nodes that could hold a stage now. */
  #able(): SimNode[] {
    return [...this.#world.nodes.values()].filter(({ paused, hung, island }) => !paused && !hung && island === 0)
  }

  #same(node: SimNode, tenure: Tenure, kinds: readonly (typeof VECTORS)[number][], shard: number, step: number): void {
    const { stage, runId } = tenure.assignment
    const alone = this.witnesses.get(runId)!.reference.vectors[step]?.[stage]
    demand(alone !== undefined, () => `${node.id} has a shard of step ${step}, which nobody trains`)
    const range = tenure.ranges[shard]!
    for (const kind of kinds)
      demand(
        sameIn(range, alone[kind], tenure.vectors[kind]),
        () => `${node.id}: ${kind} of stage ${stage}, shard ${shard}, are not those of step ${step}`,
      )
  }

  /**
   * Every microbatch is in each shard's sum once, put there by its owner: who is credited at the commit is who computed it,
   * for all of it and nothing else. And nobody holds other weights after the step than one machine.
   */
  #sums(runId: string, step: number, round: Round | null, generation: number): void {
    demand(round !== null && round.step === step, () => `step ${step} commits outside of its round`)
    for (const node of this.#world.nodes.values()) {
      const { tenure } = node
      if (tenure?.assignment.runId !== runId || tenure.assignment.generation !== generation) continue
      const { stage } = tenure.assignment
      const { owner } = round.stages[stage]!
      for (let shard = 0; shard < tenure.ranges.length; shard++) {
        if (tenure.parameterSteps[shard] === step && !isForged(tenure, shard))
          this.#same(node, tenure, ['parameters'], shard, step)
        const last = tenure.updates[shard]
        if (last?.step !== step) continue
        const summedBy = new Array<string | null>(owner.length).fill(null)
        const where = () => `step ${step}, stage ${stage}, shard ${shard} at ${node.id}`
        for (const { node: id, microbatches } of last.shares)
          for (const m of microbatches) {
            const twice = summedBy[m - round.first]
            if (twice !== null)
              throw new Violation(`${where()}: microbatch ${m} is summed twice, by ${twice} and ${id}`)
            summedBy[m - round.first] = id
          }
        for (let place = 0; place < owner.length; place++)
          if (summedBy[place] !== owner[place]) {
            const by = summedBy[place] ?? 'nobody'
            const m = round.first + place
            throw new Violation(`${where()}: microbatch ${m} counts for ${owner[place]} and was summed by ${by}`)
          }
      }
    }
  }

  #whole(step: number, { stage, chunks }: StageCheckpoint, reference: Reference): void {
    for (const kind of VECTORS) {
      const alone = reference.vectors[step]![stage]![kind]
      const sorted = chunks.filter((chunk) => chunk.kind === kind).sort((a, b) => a.offset - b.offset)
      let end = 0
      for (const { offset, length, hash } of sorted) {
        const values = this.#world.get(hash)
        demand(
          offset === end && values.length === length && sameFrom(alone, offset, values),
          () => `checkpoint ${step}: ${kind} of stage ${stage} at ${offset} are not what one machine has`,
        )
        end += length
      }
      demand(end === alone.length, () => `checkpoint ${step}: ${kind} of stage ${stage} end at ${end}`)
    }
  }
}
