/** Owns a run's committed steps as the page holds them: in step order, each once, cut back by a rollback. */
import type { StepMetric } from '../../protocol/api.ts'

export class MetricLog {
  #steps: StepMetric[] = []
  #best: StepMetric | null = null

  get all(): readonly StepMetric[] {
    return this.#steps
  }

  get last(): StepMetric | null {
    return this.#steps.at(-1) ?? null
  }

  /** The step of lowest loss. */
  get best(): StepMetric | null {
    return this.#best
  }

  replace(metrics: readonly StepMetric[]): void {
    this.#steps = [...metrics].sort((a, b) => a.step - b.step)
    this.#findBest()
  }

  /** Adds a committed step. One that was committed before supersedes itself and everything after it. */
  append(metric: StepMetric): void {
    if (this.last && metric.step <= this.last.step) this.rollBack(metric.step - 1)
    this.#steps.push(metric)
    if (!this.#best || metric.loss < this.#best.loss) this.#best = metric
  }

  /** Metrics after `toStep` are void. */
  rollBack(toStep: number): void {
    let keep = this.#steps.length
    while (keep > 0 && this.#steps[keep - 1]!.step > toStep) keep--
    this.#steps.length = keep
    this.#findBest()
  }

  #findBest(): void {
    this.#best = null
    for (const metric of this.#steps) if (!this.#best || metric.loss < this.#best.loss) this.#best = metric
  }
}
