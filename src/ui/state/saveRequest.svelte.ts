/** Owns one wish for a checkpoint: it is asked for, the server takes it up, and the run's checkpoints show it done. */
import type { CheckpointView, RunSummary } from '../../protocol/api.ts'
import type { ErrorBody } from '../../protocol/errors.ts'
import type { ApiClient } from '../api/client.ts'
import { exact } from '../words/quantities.ts'

type Progress =
  | { name: 'none' }
  | { name: 'asking' }
  /** The server knows; what it saves is the state after this step or a later one. */
  | { name: 'asked'; step: number }
  | { name: 'saved'; step: number }
  /** The run was interrupted before anything was saved, and the wish went with it. */
  | { name: 'lost' }

export class SaveRequest {
  error = $state.raw<ErrorBody | null>(null)
  #progress = $state.raw<Progress>({ name: 'none' })
  readonly #api: Pick<ApiClient, 'checkpoint'>
  readonly #notice: (caught: unknown) => ErrorBody

  constructor(api: Pick<ApiClient, 'checkpoint'>, notice: (caught: unknown) => ErrorBody) {
    this.#api = api
    this.#notice = notice
  }

  /** Nothing more can be asked for while this is true. */
  get pending(): boolean {
    return this.#progress.name === 'asking' || this.#progress.name === 'asked'
  }

  /** Where the wish stands, in a sentence; empty before the first. */
  get words(): string {
    const progress = this.#progress
    switch (progress.name) {
      case 'none':
        return ''
      case 'asking':
        return 'Asking for a checkpoint…'
      case 'asked':
        return 'A checkpoint is asked for. It is made with the next step, while training goes on.'
      case 'saved':
        return `The checkpoint of step ${exact(progress.step)} is saved.`
      case 'lost':
        return 'The run was interrupted before the checkpoint was saved. Ask again once it trains.'
    }
  }

  async ask(runId: string): Promise<void> {
    if (this.pending) return
    this.error = null
    this.#progress = { name: 'asking' }
    try {
      const { step } = await this.#api.checkpoint(runId)
      this.#progress = { name: 'asked', step }
    } catch (caught) {
      this.#progress = { name: 'none' }
      this.error = this.#notice(caught)
    }
  }

  /** Looks whether what was asked for has come. */
  observe(run: Pick<RunSummary, 'state'> & { checkpoints: readonly CheckpointView[] }): void {
    const progress = this.#progress
    if (progress.name !== 'asked') return
    // What the answer told was committed already; the checkpoint comes with a later commit.
    const made = run.checkpoints.find(({ step }) => step > progress.step)
    if (made) this.#progress = { name: 'saved', step: made.step }
    else if (run.state !== 'training' && run.state !== 'evaluating') this.#progress = { name: 'lost' }
  }
}
