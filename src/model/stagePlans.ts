/** Owns a stage's static plans: each recorded at its first use, over one workspace, and run from then on. */
import type { BufferView } from '../gpu/buffers.ts'
import type { GpuContext } from '../gpu/device.ts'
import type { Variables } from '../gpu/kernel.ts'
import { PlanBuilder } from '../gpu/plan.ts'
import type { Plan } from '../gpu/plan.ts'
import { Workspace } from '../gpu/workspace.ts'

/** A plan with the places where its inputs are to be written before a run, and of what is read after it. */
export interface StagePlan<Inputs> {
  readonly plan: Plan
  readonly inputs: Inputs
  readonly reads: readonly BufferView[]
}

export interface Recorded<Inputs> {
  /** Lent by the recorder's `input`, to be written before a run. */
  readonly inputs: Inputs
  readonly reads: readonly BufferView[]
}

export class StagePlans {
  readonly #gpu: GpuContext
  readonly #workspace: Workspace
  readonly #mostWork: number
  readonly #plans = new Map<string, StagePlan<unknown>>()
  #dispatches = 0
  #submits = 0

  /** `mostWork` multiply-adds go into one submit. */
  constructor(gpu: GpuContext, mostWork: number) {
    this.#gpu = gpu
    this.#mostWork = mostWork
    this.#workspace = new Workspace(gpu.pool)
  }

  /** Dispatches and submits of all runs so far. */
  get work(): { readonly dispatches: number; readonly submits: number } {
    return { dispatches: this.#dispatches, submits: this.#submits }
  }

  /** The plan of that name, recorded if this is its first use. */
  get<Inputs>(name: string, record: (recorder: PlanBuilder) => Recorded<Inputs>): StagePlan<Inputs> {
    let found = this.#plans.get(name) as StagePlan<Inputs> | undefined
    if (!found) {
      const builder = new PlanBuilder(this.#gpu, this.#workspace, name, this.#mostWork)
      const { inputs, reads } = record(builder)
      found = { plan: builder.build(), inputs, reads }
      this.#plans.set(name, found)
    }
    return found
  }

  /** Submits the plan; resolves to the bytes of its reads. What its inputs hold must have been written just before. */
  run({ plan, reads }: StagePlan<unknown>, variables?: Variables): Promise<ArrayBuffer[]> {
    this.#dispatches += plan.dispatches
    this.#submits += plan.submits
    return Promise.all(plan.run(variables, reads))
  }

  destroy(): void {
    for (const { plan } of this.#plans.values()) plan.destroy()
    this.#plans.clear()
    this.#workspace.destroy()
  }
}
