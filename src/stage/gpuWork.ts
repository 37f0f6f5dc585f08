/** Owns what each of the stage machine's actions does on the GPU, and the event that answers it. */
import type { NodePhase, NodeStats } from '../protocol/control.ts'
import type { StageAction, StageEvent } from './machineTypes.ts'
import { computeMicrobatch } from './microbatchWork.ts'
import { digestOf, sumDigestOf } from './receiptWork.ts'
import type { Tenure } from './tenure.ts'
import { testimonyOf } from './testimony.ts'
import { warmUp } from './warmUp.ts'

type Bytes = Uint8Array<ArrayBufferLike>

/** The actions that take their turn on the GPU and are done when it is over. */
export type GpuAction = Exclude<
  StageAction<Bytes>,
  { type: 'report' | 'prepare' | 'keep' | 'discard' | 'send' | 'want' | 'save' | 'sign' | 'tally' | 'exhibit' }
>

export interface GpuWorkHost {
  phase(phase: NodePhase, progress: number | null): void
  readonly stats: Pick<NodeStats, 'tokens'>
}

/** Work that makes another version of the vectors stand: the machine counts on it when it keeps them under a new generation. */
export function changesVectors({ type }: GpuAction): boolean {
  return type === 'update' || type === 'writeParameters' || type === 'writeMoments'
}

/** Calls are made one at a time, for a tenure that has its model. @throws whatever the model throws, and `transfer.failed` */
export async function performOnGpu(
  tenure: Tenure,
  generation: number,
  action: GpuAction,
  { phase, stats }: GpuWorkHost,
): Promise<StageEvent<Bytes> | null> {
  const [model, work] = [tenure.model!, tenure.shardWork!]
  switch (action.type) {
    case 'beginStep':
      model.beginStep(action.step)
      return null
    case 'measure': {
      const expectedMs = await warmUp(model, tenure.assignment.config, action.step)
      return { type: 'measured', generation, expectedMs }
    }
    case 'compute': {
      const { op, microbatch, step } = action
      tenure.training = op === 'forward' || op === 'backward' || op === 'forwardBackward'
      phase(tenure.training ? 'training' : 'evaluating', null)
      const goesOn = () => tenure.assignment.generation === generation
      const result = await computeMicrobatch(model, tenure.tokens, action, goesOn)
      const { config } = tenure.assignment
      if (op === 'backward') stats.tokens += config.microbatch * config.model.blockSize
      if (op === 'forwardBackward') stats.tokens += result.loss!.tokens
      const digest = tenure.training && result.output ? digestOf(result.output) : null
      return { type: 'computed', generation, step, op, microbatch, digest, ...result }
    }
    case 'enterLane':
      await tenure.laneWork!.enterLane(action.lane)
      return null
    case 'innerUpdate': {
      const { step, lane, inner } = action
      await tenure.laneWork!.innerUpdate(step, lane, inner)
      return { type: 'innerUpdated', generation, step, lane, inner }
    }
    case 'recompute': {
      const { audit, op, microbatch, step, input, digest, claimed } = action
      phase('training', null)
      const about = { generation, step, audit, op, microbatch }
      // Whoever gives a juror other inputs than the claimant had would have it convicted.
      const genuine = (await digest) === claimed
      if (!genuine) return { type: 'recomputed', ...about, output: null, loss: null, genuine }
      const goesOn = () => tenure.assignment.generation === generation
      const { output, loss } = await computeMicrobatch(model, tenure.tokens, { op, microbatch, step, input }, goesOn)
      return { type: 'recomputed', ...about, output, loss, genuine }
    }
    case 'testify': {
      const { audit, step, shard } = action
      const evidence = testimonyOf(tenure, action, await work.readGradient(shard))
      return { type: 'testified', generation, message: { type: 'recomputed', generation, step, audit, evidence } }
    }
    case 'readGradient': {
      phase('merging', null)
      const { step, version, shard } = action
      const tensor = await work.readGradient(shard)
      return { type: 'gradientRead', generation, step, version, shard, tensor, digest: digestOf(tensor) }
    }
    case 'restoreGradient':
      work.restoreGradient(action.shard, action.tensor)
      return null
    case 'reduce': {
      phase('merging', null)
      const { step, attempt, shard, contributions, digests } = action
      const squaredNorm = await work.reduce(shard, step, contributions)
      // The shares were hashed as they came.
      const digest = digests.length > 0 ? await sumDigestOf(digests) : null
      return { type: 'reduced', generation, step, attempt, shard, squaredNorm, digest }
    }
    case 'mean': {
      const { step, attempt, shard } = action
      return { type: 'meanMade', generation, step, attempt, shard, tensor: tenure.laneWork!.mean(shard, action) }
    }
    case 'update': {
      phase('merging', null)
      const { step, shard } = action
      const tensor = await work.update(shard, action, tenure.sharesParameters)
      return { type: 'updated', generation, step, shard, tensor }
    }
    case 'writeParameters': {
      const { step, shard } = action
      const agrees = await work.writeParameters(action)
      if (!tenure.complete) phase('loading', tenure.loaded(shard))
      return { type: 'parametersWritten', generation, step, shard, agrees }
    }
    case 'writeMoments': {
      const { step, shard, tensor } = action
      work.writeMoments(shard, tensor)
      return { type: 'momentsWritten', generation, step, shard }
    }
    case 'readShard': {
      const { kind, step, shard, to } = action
      return { type: 'shardRead', generation, kind, step, shard, to, tensor: await work.read(kind, shard) }
    }
  }
}
