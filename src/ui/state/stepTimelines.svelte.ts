/** Owns the timelines of one run as its page shows them: the last steps, and the one of them that is looked at. */
import { toErrorBody, type ErrorBody } from '../../protocol/errors.ts'
import type { StepTimeline } from '../../protocol/timeline.ts'
import type { ApiClient } from '../api/client.ts'
import { whileVisible } from './whileVisible.ts'

const EVERY_MS = 3000

export class StepTimelines {
  /** Oldest first; null before the first answer. */
  steps = $state.raw<readonly StepTimeline[] | null>(null)
  /** The last failure; what was known before stays on the page. */
  error = $state.raw<ErrorBody | null>(null)
  /** Null: the newest, whichever that is. */
  #held = $state.raw<StepTimeline | null>(null)
  readonly #runId: string
  readonly #api: Pick<ApiClient, 'timeline'>

  constructor(runId: string, api: Pick<ApiClient, 'timeline'>) {
    this.#runId = runId
    this.#api = api
  }

  get shown(): StepTimeline | null {
    return this.#held ?? this.steps?.at(-1) ?? null
  }

  /** Those that can be chosen, newest first: one that is looked at stays until another is chosen. */
  get choices(): readonly number[] {
    const known = (this.steps ?? []).map(({ step }) => step)
    const held = this.#held?.step
    return (held === undefined || known.includes(held) ? known : [...known, held]).toSorted((a, b) => b - a)
  }

  /** The step that is held; 0 while the newest is shown. */
  get chosen(): number {
    return this.#held?.step ?? 0
  }

  set chosen(step: number) {
    if (step !== this.#held?.step) this.#held = this.steps?.find((one) => one.step === step) ?? null
  }

  async refresh(): Promise<void> {
    try {
      this.steps = (await this.#api.timeline(this.#runId)).steps
      this.error = null
    } catch (caught) {
      this.error = toErrorBody(caught)
    }
  }

  /** Asks again and again until the returned function is called; a hidden page asks nothing. */
  follow(): () => void {
    return whileVisible(() => this.refresh(), EVERY_MS)
  }
}
