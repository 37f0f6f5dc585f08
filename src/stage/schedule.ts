/** Owns which microbatch a stage computes next: 1F1B (Narayanan et al. 2021, PipeDream-Flush), backward first. */
import type { StepState } from './machine/state.ts'
import type { ComputeOp } from './machineTypes.ts'

export interface NextCompute<T> {
  op: ComputeOp
  microbatch: number
  input: T | null
}

/** Whether as many microbatches are in flight as the server lets in; the last stage and an evaluation have none in flight. */
export function windowFull<T>(current: StepState<T>, stage: number, stages: number): boolean {
  if (current.mode === 'evaluate' || stage === stages - 1) return false
  return current.started - current.done >= current.window
}

/** Takes the input out of the step's state; null when nothing can be computed now. */
export function nextCompute<T>(current: StepState<T>, stage: number, stages: number): NextCompute<T> | null {
  const [back] = current.backwards
  if (back !== undefined) return takeBackward(current, back)
  const [forth] = current.forwards
  if (forth === undefined || windowFull(current, stage, stages)) return null
  return takeForward(current, forth, stage, stages)
}

/** Takes a microbatch out of those that can go backward. */
export function takeBackward<T>(current: StepState<T>, microbatch: number): NextCompute<T> {
  current.backwards.splice(current.backwards.indexOf(microbatch), 1)
  const lease = current.leases.get(microbatch)!
  const input = lease.gradient
  lease.gradient = null
  lease.phase = 'returning'
  return { op: 'backward', microbatch, input }
}

/** Takes a microbatch out of those that can go forward. */
export function takeForward<T>(
  current: StepState<T>,
  microbatch: number,
  stage: number,
  stages: number,
): NextCompute<T> {
  current.forwards.splice(current.forwards.indexOf(microbatch), 1)
  const lease = current.leases.get(microbatch)!
  const input = lease.input
  lease.input = null
  lease.phase = 'forwarding'
  current.started++
  const last = stage === stages - 1
  const training = current.mode === 'train'
  return {
    op: training ? (last ? 'forwardBackward' : 'forward') : last ? 'evaluate' : 'forwardOnly',
    microbatch,
    input,
  }
}

/** Puts a microbatch in its place in an ascending queue; mostly that is the end. */
export function enqueue(queue: number[], microbatch: number): void {
  let i = queue.length
  while (i > 0 && queue[i - 1]! > microbatch) i--
  if (i === queue.length) queue.push(microbatch)
  else queue.splice(i, 0, microbatch)
}
