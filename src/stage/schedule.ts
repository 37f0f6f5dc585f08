/** Owns which microbatch a stage computes next: 1F1B (Narayanan et al. 2021, PipeDream-Flush), backward first. */
import type { StepState } from './machine.ts'
import type { ComputeOp } from './machineTypes.ts'

export interface NextCompute<T> {
  op: ComputeOp
  microbatch: number
  input: T | null
}

/**
 * Microbatches a stage may have forwarded and not yet taken backward: the depth of the pipeline behind it, and one
 * more so that a link's latency does not leave the stage idle.
 */
export function injectionWindow(stage: number, stages: number): number {
  return stages - stage + 1
}

/** Takes the input out of the step's state; null when nothing can be computed now. */
export function nextCompute<T>(current: StepState<T>, stage: number, stages: number): NextCompute<T> | null {
  const last = stage === stages - 1
  for (const m of current.owned) {
    const gradient = current.gradients.get(m)
    if (gradient === undefined) continue
    current.gradients.delete(m)
    current.returned.add(m)
    return { op: 'backward', microbatch: m, input: gradient }
  }
  const training = current.mode === 'train'
  const inFlight = current.started.size - current.finished.size
  if (training && !last && inFlight >= injectionWindow(stage, stages)) return null
  for (const m of current.owned) {
    if (current.started.has(m)) continue
    const activation = current.activations.get(m) ?? null
    if (stage > 0 && activation === null) continue
    current.activations.delete(m)
    current.started.add(m)
    const op = training ? (last ? 'forwardBackward' : 'forward') : last ? 'evaluate' : 'forwardOnly'
    return { op, microbatch: m, input: activation }
  }
  return null
}
