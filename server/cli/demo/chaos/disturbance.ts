/** Owns the disturbed run's course: lets each blow fall at its step, once the run has got over the one before. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Crew } from './crew.ts'
import type { Blow } from './plan.ts'
import type { ServerProcess } from './serverProcess.ts'
import { Takeovers } from './takeovers.ts'

/** Commits between two blows at least. */
const COMMITS_BETWEEN = 2

export interface DisturbanceOptions {
  plan: readonly Blow[]
  crew: Pick<Crew, 'changed' | 'committed' | 'present' | 'spareable' | 'strike'>
  server: Pick<ServerProcess, 'kill' | 'restart'>
  /** Of one step. */
  microbatches: number
  /** What a step takes when nobody disturbs it. */
  stepMs: number
  say: (text: string) => void
}

export class Disturbance {
  readonly takeovers: Takeovers
  readonly #options: DisturbanceOptions
  readonly #ended = new AbortController()
  readonly #waiting = new Set<() => void>()
  #committed = 0
  /** No blow falls before this step is committed. */
  #restUntil = 0
  #serverAway = false

  constructor(options: DisturbanceOptions) {
    this.#options = options
    this.takeovers = new Takeovers(options.microbatches)
    options.crew.changed = () => this.#changed()
  }

  /** A step is committed, or the run went back to one. */
  committed(step: number): void {
    // What the server said with its last breath is no sign that it is back.
    if (step > this.#committed && !this.#serverAway) this.takeovers.committed(Date.now())
    this.#committed = step
    this.#options.crew.committed = step
    this.#changed()
  }

  /** The run trains no more: what has not fallen by now does not fall. */
  end(): void {
    this.#ended.abort()
    this.#wake()
  }

  /** Resolves once every blow has fallen or the run trains no more. @throws when a blow could not be dealt */
  async run(): Promise<void> {
    const { plan } = this.#options
    const dealt = async (blows: readonly Blow[]) => {
      for (const blow of blows) await this.#deal(blow)
    }
    try {
      // The server's turn comes at its step, however far behind the others are.
      await Promise.all([
        dealt(plan.filter(({ what }) => what !== 'server')),
        dealt(plan.filter(({ what }) => what === 'server')),
      ])
    } catch (caught) {
      if (!this.#ended.signal.aborted) throw caught
    }
  }

  async #deal(blow: Blow): Promise<void> {
    const { crew, server, say, stepMs } = this.#options
    // The server's restart costs no volunteer: it needs none to spare.
    const isDue = () =>
      this.#committed >= Math.max(blow.atStep, this.#restUntil) &&
      this.takeovers.pending === 0 &&
      (blow.what === 'server' || crew.spareable().length > 0)
    do {
      await this.#until(isDue)
      await sleep(blow.moment * stepMs, undefined, { signal: this.#ended.signal })
    } while (!isDue())
    const step = this.#committed
    this.#restUntil = step + COMMITS_BETWEEN
    if (blow.what === 'server') {
      say(`after step ${step}: kill -9 of the server, started again ${blow.awayMs} ms later`)
      this.takeovers.add({
        blow,
        at: Date.now(),
        step,
        stage: null,
        leases: 0,
        underway: step,
        seconds: null,
        stood: false,
      })
      this.#serverAway = true
      await server.kill()
      await sleep(blow.awayMs)
      await server.restart()
      this.#serverAway = false
      return
    }
    const spareable = crew.spareable()
    const victim = spareable[Math.min(spareable.length - 1, Math.floor(blow.victim * spareable.length))]!
    const { stage, leases, step: underway } = victim.presence
    say(`after step ${step}: ${blow.what} of a volunteer of stage ${stage! + 1} with ${leases.size} microbatches`)
    this.takeovers.add({
      blow,
      at: Date.now(),
      step,
      stage,
      leases: leases.size,
      underway,
      seconds: null,
      stood: false,
    })
    await crew.strike(victim, blow)
  }

  #changed(): void {
    this.takeovers.look(this.#options.crew.present, Date.now())
    this.#wake()
  }

  #wake(): void {
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const wake of waiting) wake()
  }

  async #until(met: () => boolean): Promise<void> {
    for (;;) {
      this.#ended.signal.throwIfAborted()
      if (met()) return
      await new Promise<void>((resolve) => this.#waiting.add(resolve))
    }
  }
}
