/** Owns a stage under test: an assignment in which tensors are strings, and short ways to say what happens. */
import type { Assignment, ServerMessage, ShardOwners } from '../../../src/protocol/control.ts'
import { receiptsOf, type ReceiptEntry } from '../../../src/protocol/receipt.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'
import { advance, initialStageState } from '../../../src/stage/machine.ts'
import type { ComputeOp, StageAction, StageEvent, TensorAddress, TensorKind } from '../../../src/stage/machineTypes.ts'

export type Action = StageAction<string>
type Message<K extends ServerMessage['type']> = Extract<ServerMessage, { type: K }>
/** A microbatch and the owners of it at the stages before and after. */
export type LeaseOf = [microbatch: number, up: string | null, down: string | null]

interface Place {
  stage?: number
  stages?: number
  /** Replicas wanted, which is the number of shards. */
  replicas?: number
  /** The checkpoint's step. */
  at?: number
}
interface StepOptions {
  leases?: LeaseOf[]
  owners?: ShardOwners
  version?: number
  mode?: 'train' | 'evaluate'
  committed?: number
  generation?: number
  window?: number
}

export class Stage {
  readonly state = initialStageState<string>()
  readonly stage: number
  readonly stages: number
  readonly replicas: number
  readonly at: number
  generation = 1
  /** The step under way, which whatever happens next belongs to. */
  now = 1
  clock = 0
  /** Everything that was asked for, in order. */
  log: Action[] = []

  /** The node `me`; who else there is, the leases and the owners say. */
  constructor({ stage = 0, stages = 1, replicas = 1, at = 0 }: Place = {}) {
    this.stage = stage
    this.stages = stages
    this.replicas = replicas
    this.at = at
    this.welcome()
  }

  /** One that has its vectors from the checkpoint. */
  static ready(place: Place = {}): Stage {
    const stage = new Stage(place)
    stage.assign()
    stage.prepared(stage.at)
    stage.now = stage.at + 1
    return stage
  }

  /** Whether the device signs at once whatever it is asked to; otherwise `signed` does. */
  signs = true

  do(event: StageEvent<string>): Action[] {
    const actions = advance(this.state, event)
    this.log.push(...actions)
    if (this.signs) for (const asked of this.of('sign', actions)) actions.push(...this.signed(asked))
    return actions
  }

  signed({ step, version, entries, shares }: Extract<Action, { type: 'sign' }>): Action[] {
    const { generation, stage } = this
    const about = {
      run: 'run',
      generation,
      step,
      leases: version,
      stage,
      device: 'd'.repeat(64),
      shares: shares as string[],
    }
    const receipts = receiptsOf(about, entries as ReceiptEntry<string>[])
    const signed = receipts.map((receipt) => ({ receipt, signature: '5'.repeat(128) }))
    return this.do({ type: 'signed', generation, step, version, receipts: signed })
  }

  server(message: ServerMessage): Action[] {
    return this.do({ type: 'server', message })
  }

  welcome(): Action[] {
    const base = { token: 't', heartbeatMs: 1, iceServers: [] }
    return this.server({ type: 'welcome', nodeId: 'me', resumed: false, received: 0, ...base })
  }

  assign(options: Partial<Assignment> = {}): Action[] {
    const { stage, stages, replicas, at, generation } = this
    const assignment: Assignment = {
      runId: 'run',
      runName: 'run',
      generation,
      stage,
      config: runConfigSchema.parse({ stages, replicas }),
      dataset: { id: 'd', tokens: 10, trainTokens: 9 },
      source: 'checkpoint',
      checkpoint: { step: at, stage: { stage, chunks: [] } },
      finish: null,
      ...options,
    }
    this.generation = assignment.generation
    return this.server({ type: 'assign', assignment })
  }

  prepared(step: number | null): Action[] {
    return this.do({ type: 'prepared', generation: this.generation, step, expectedMs: 12 })
  }

  /** Begins a step; without `owners` this node is the only one of each shard. */
  step(step: number, options: StepOptions = {}): Action[] {
    const { leases = [], mode = 'train', committed = step - 1, generation = this.generation } = options
    const { window = this.stages - this.stage + 1 } = options
    const { version = leases.length > 0 ? 1 : 0, owners = Array.from({ length: this.replicas }, () => ['me']) } =
      options
    this.now = step
    const base = { generation, step, mode, version, owners, committed, window }
    return this.server({ type: 'step', ...base, ...table(leases) })
  }

  leases(version: number, leases: LeaseOf[]): Action[] {
    const { generation, now: step } = this
    return this.server({ type: 'leases', generation, step, version, ...table(leases) })
  }

  revoked(): Action[] {
    return this.server({ type: 'revoked', generation: this.generation, step: this.now })
  }

  owners(owners: ShardOwners): Action[] {
    return this.server({ type: 'owners', generation: this.generation, step: this.now, owners })
  }

  /** `shards`: these alone, ahead of the others. */
  reduce(attempt: number, contributors: [string, number][], shards?: number[]): Action[] {
    const { generation, now: step } = this
    return this.server({ type: 'reduce', generation, step, attempt, contributors, ...(shards && { shards }) })
  }

  apply(owners: ShardOwners, options: Partial<Message<'apply'>> = {}): Action[] {
    const rates = { lr: 0.1, scale: 0.5, receivers: ['me', 'you', 'third'] }
    const base = { generation: this.generation, step: this.now, attempt: 1, ...rates }
    return this.server({ type: 'apply', ...base, owners, ...options })
  }

  address(kind: TensorKind, index: number, options: Partial<TensorAddress> = {}): TensorAddress {
    const boundary = kind === 'activation' ? this.stage - 1 : this.stage
    const attempt = kind === 'gradientShard' ? 1 : 0
    return { kind, generation: this.generation, step: this.now, index, boundary, attempt, ...options }
  }

  /** A frame to this node; its address is one that it expects unless `options` say otherwise. */
  frame(from: string, kind: TensorKind, index: number, options: Partial<TensorAddress> = {}): Action[] {
    const address = this.address(kind, index, options)
    const tensor = `${kind} ${index} of ${from}`
    return this.do({ type: 'frame', from, address, tensor, digest: digestOf(tensor) })
  }

  want(from: string, kind: TensorKind, index: number, options: Partial<TensorAddress> = {}): Action[] {
    return this.do({ type: 'want', from, address: this.address(kind, index, options) })
  }

  computed(op: ComputeOp, microbatch: number, output: string | null = null, step = this.now): Action[] {
    const loss = op === 'forwardBackward' || op === 'evaluate' ? { sum: microbatch + 0.5, tokens: 8 } : null
    const digest = output === null ? null : digestOf(output)
    const { generation } = this
    return this.do({ type: 'computed', generation, step, op, microbatch, output, digest, loss, busyMs: 10 })
  }

  /** Answers everything that the device was asked for, until it is asked for nothing more. */
  settle(actions: Action[]): Action[] {
    const all = [...actions]
    for (let i = 0; i < all.length; i++) all.push(...this.answer(all[i]!))
    return all
  }

  /** What the device says to one action. */
  answer(action: Action): Action[] {
    const { generation } = this
    switch (action.type) {
      case 'compute': {
        const { op, microbatch } = action
        const outward = op === 'forward' || op === 'forwardOnly' ? this.stage < this.stages - 1 : this.stage > 0
        return this.computed(op, microbatch, outward && op !== 'evaluate' ? `${op} ${microbatch}` : null)
      }
      case 'recompute': {
        const { audit, op, microbatch, step, digest, claimed } = action
        const genuine = digest === claimed
        const output = genuine && (op !== 'forwardBackward' || this.stage > 0) ? `${op} ${microbatch} again` : null
        const loss = op === 'forwardBackward' ? { sum: 6, tokens: 4 } : null
        return this.do({ type: 'recomputed', generation, step, audit, op, microbatch, output, loss, genuine })
      }
      case 'testify': {
        const { audit, step } = action
        return this.do({ type: 'testified', generation, message: { type: 'recomputed', generation, step, audit, evidence: {} } }) // prettier-ignore
      }
      case 'readGradient': {
        const { step, version, shard } = action
        const tensor = `own ${shard} v${version}`
        return this.do({ type: 'gradientRead', generation, step, version, shard, tensor, digest: digestOf(tensor) })
      }
      case 'reduce': {
        const { step, attempt, shard, digests } = action
        const digest = digests.length > 0 ? digestOf(digests.join()) : null
        return this.do({ type: 'reduced', generation, step, attempt, shard, squaredNorm: 9, digest })
      }
      case 'mean': {
        const { step, attempt, shard } = action
        return this.do({ type: 'meanMade', generation, step, attempt, shard, tensor: `mean ${shard} a${attempt}` })
      }
      case 'update':
        return this.do({
          type: 'updated',
          generation,
          step: action.step,
          shard: action.shard,
          tensor: `new ${action.shard}`,
        })
      case 'writeParameters':
        return this.do({ type: 'parametersWritten', generation, step: action.step, shard: action.shard, agrees: true })
      case 'writeMoments':
        return this.do({ type: 'momentsWritten', generation, step: action.step, shard: action.shard })
      case 'readShard': {
        const { kind, step, shard, to } = action
        return this.do({
          type: 'shardRead',
          generation,
          kind,
          step,
          shard,
          to,
          tensor: `${kind} ${shard} after ${step}`,
        })
      }
      default:
        return []
    }
  }

  /** Ticks once a second. */
  idle(seconds: number): Action[] {
    return Array.from({ length: seconds }, () => this.do({ type: 'tick', now: (this.clock += 1000) })).flat()
  }

  of<K extends Action['type']>(type: K, actions: readonly Action[] = this.log): Extract<Action, { type: K }>[] {
    return actions.filter((action): action is Extract<Action, { type: K }> => action.type === type)
  }

  /** What was computed so far, such as `forward 2`. */
  computes(actions: readonly Action[] = this.log): string[] {
    return this.of('compute', actions).map(({ op, microbatch }) => `${op} ${microbatch}`)
  }

  /** Tensors sent, such as `activation 2 to you`. */
  sends(actions: readonly Action[] = this.log): string[] {
    return this.of('send', actions).map(({ address, to }) => `${address.kind} ${address.index} to ${to}`)
  }

  wants(actions: readonly Action[] = this.log): string[] {
    return this.of('want', actions).map(({ address, to }) => `${address.kind} ${address.index} of ${to}`)
  }

  reports(actions: readonly Action[] = this.log): string[] {
    return this.of('report', actions).map(({ message }) => message.type)
  }

  /** The last message of this type to the server. */
  last(type: string): unknown {
    return this.of('report').findLast(({ message }) => message.type === type)?.message
  }
}

/** As long as a digest is, and as plain as the tensor's name. */
export const digestOf = (tensor: string) =>
  Array.from(tensor, (c) => c.charCodeAt(0).toString(16))
    .join('')
    .padStart(32, '0')
    .slice(-32)

function table(leases: LeaseOf[]): Pick<Message<'leases'>, 'peers' | 'leases'> {
  const peers = [...new Set(leases.flatMap(([, up, down]) => [up, down]).filter((id) => id !== null))]
  return {
    peers,
    leases: leases.map(([m, up, down]) => [m, up ? peers.indexOf(up) : -1, down ? peers.indexOf(down) : -1]),
  }
}
