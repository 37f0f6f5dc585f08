/** Owns a stage under test: an assignment in which tensors are strings, and short ways to say what happens. */
import type { Assignment, ServerMessage } from '../../../src/protocol/control.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'
import { advance, initialStageState } from '../../../src/stage/machine.ts'
import type { ComputeOp, StageAction, StageEvent, TensorAddress } from '../../../src/stage/machineTypes.ts'

export type Action = StageAction<string>
type Message<K extends ServerMessage['type']> = Extract<ServerMessage, { type: K }>

export class Stage {
  readonly state = initialStageState<string>()
  readonly members: string[][]
  readonly stage: number
  readonly replica: number
  /** Everything that was asked for, in order. */
  log: Action[] = []

  /** Sits at `self` among `members`; the names say nothing, the places do. */
  constructor(members: string[][], self: string, options: { generation?: number; at?: number } = {}) {
    this.members = members
    this.stage = members.findIndex((ids) => ids.includes(self))
    this.replica = members[this.stage]!.indexOf(self)
    const { generation = 1, at = 0 } = options
    this.assign(generation, at)
    this.do({ type: 'prepared', generation })
  }

  do(event: StageEvent<string>): Action[] {
    const actions = advance(this.state, event)
    this.log.push(...actions)
    return actions
  }

  assign(generation: number, at = 0): Action[] {
    const { members, stage, replica } = this
    const assignment: Assignment = {
      runId: 'run',
      runName: 'run',
      generation,
      stage,
      replica,
      config: runConfigSchema.parse({ stages: members.length }),
      members,
      dataset: { id: 'd', tokens: 10, trainTokens: 9 },
      checkpoint: { step: at, stage: { stage, chunks: [] } },
    }
    return this.do({ type: 'server', message: { type: 'assign', assignment } })
  }

  step(step: number, options: Partial<Message<'step'>> = {}): Action[] {
    const message = {
      type: 'step',
      generation: 1,
      step,
      mode: 'train',
      first: 0,
      microbatches: 4,
      ...options,
    } as const
    return this.do({ type: 'server', message })
  }

  apply(step: number): Action[] {
    return this.do({ type: 'server', message: { type: 'apply', generation: 1, step, lr: 0.1, scale: 0.5 } })
  }

  /** A frame from the named node; the address is one that it may send unless `options` say otherwise. */
  frame(from: string, kind: TensorAddress['kind'], index: number, options: Partial<TensorAddress> = {}): Action[] {
    const boundary = kind === 'activation' ? this.stage - 1 : this.stage
    const replica = this.members.flatMap((ids) => (ids.includes(from) ? [ids.indexOf(from)] : []))[0] ?? 0
    const address = { kind, generation: 1, step: 1, index, boundary, replica, ...options }
    return this.do({ type: 'frame', from, address, tensor: `${kind} ${index} of ${from}` })
  }

  computed(op: ComputeOp, microbatch: number, output: string | null = null): Action[] {
    const loss = op === 'forwardBackward' || op === 'evaluate' ? { sum: 1, tokens: 1 } : null
    return this.do({ type: 'computed', generation: 1, op, microbatch, output, loss })
  }

  of<K extends Action['type']>(type: K): Extract<Action, { type: K }>[] {
    return this.log.filter((action): action is Extract<Action, { type: K }> => action.type === type)
  }

  /** What was computed so far, such as `forward 2`. */
  computes(): string[] {
    return this.of('compute').map(({ op, microbatch }) => `${op} ${microbatch}`)
  }

  reports(): string[] {
    return this.of('report').map(({ message }) => message.type)
  }
}
