/** Owns the border between the bench and what it measures: what each engine implements, and what is asked of it. */
import type { RunConfig } from '../../src/protocol/runConfig.ts'
import type { KernelCase, StepInput, WorkName } from './works.ts'

/** A kernel ready to run on operands in GPU memory. */
export interface Kernel {
  /** Queues the kernel `times` times; resolves when the GPU has finished. */
  run(times: number): Promise<void>
  /** What the last run computed, row-major: C, or the attention's output, followed by dq, dk and dv. */
  result(): Promise<Float32Array>
  release(): void | Promise<void>
}

/** A model in training. */
export interface Training {
  /** Forward, backward, clipping by the global norm, AdamW; resolves to the mean loss before the update, in nats. */
  step(input: StepInput): Promise<number>
  release(): void | Promise<void>
}

/** What one engine can do. Operands and weights are the bench's, so that all engines do the same work. */
export interface Engine {
  /** Null for a kernel this engine has not. `operands` are A and B, or q, k, v and the output's gradient. */
  kernel?(kernel: KernelCase, operands: readonly Float32Array<ArrayBuffer>[]): Promise<Kernel | null>
  /** `flat` holds the tensors as `stageLayouts(model, 1)[0]` lists them. */
  training?(config: RunConfig, flat: Float32Array<ArrayBuffer>): Promise<Training>
}

export interface GpuWork {
  readonly dispatches: number
  readonly submits: number
  readonly peakBytes: number
}

/** One engine in a page or process of its own. Calls are made one at a time; all arguments and results are plain data. */
export interface Contender {
  /** Loads the engine and finds its adapter. */
  start(): Promise<{ adapter: string; software: boolean }>
  /** Compiles and runs once; null where the engine has no such kernel, else how far sampled results are off f64. */
  prepareKernel(kernel: KernelCase): Promise<{ error: number } | null>
  /** Milliseconds of `times` runs. */
  runKernel(times: number): Promise<number>
  releaseKernel(): Promise<void>
  prepareTraining(work: WorkName): Promise<void>
  /** Steps `first` to `first + count − 1`; `milliseconds` covers all of them. */
  train(first: number, count: number): Promise<{ losses: number[]; milliseconds: number }>
  /** Counts since `start`. */
  gpuWork(): Promise<GpuWork | null>
  releaseTraining(): Promise<void>
}
