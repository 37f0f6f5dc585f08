/** Owns the measure of recovery: how long after a blow the leases of the one it hit are with others who live. */
import type { Blow, VolunteerBlow } from './plan.ts'
import type { Presence } from './presence.ts'

/** What a blow did. Times are Unix milliseconds. */
export interface Struck {
  readonly blow: Blow
  readonly at: number
  /** The last step that was committed by then. */
  readonly step: number
  /** Null for the server. */
  readonly stage: number | null
  /** Leases that the victim held in the step under way, and that step. */
  readonly leases: number
  readonly underway: number
  /**
   * Seconds until every microbatch of the victim's stage was leased to somebody who lives; of the server's death: until the next
   * commit. Null while that is still to come.
   */
  seconds: number | null
  /** The step ended without its leases having moved: it had finished them, and others had its share of the sum. */
  stood: boolean
}

/** Blows of which the server is told by the page itself, as it goes. */
export const announced: ReadonlySet<VolunteerBlow | 'server'> = new Set(['close', 'reload'])
/** Blows that nobody tells the server of. */
export const silent: ReadonlySet<VolunteerBlow | 'server'> = new Set(['kill', 'freeze'])

export class Takeovers {
  readonly struck: Struck[] = []
  readonly #microbatches: number

  /** @param microbatches of one step */
  constructor(microbatches: number) {
    this.#microbatches = microbatches
  }

  add(struck: Struck): void {
    this.struck.push(struck)
  }

  get pending(): number {
    return this.struck.filter(({ seconds }) => seconds === null).length
  }

  /** Looks whether the stages that were hit are whole again among those who are present. */
  look(present: readonly Presence[], now: number): void {
    for (const struck of this.struck) {
      if (struck.seconds !== null || struck.stage === null) continue
      const step = wholeAt(present, struck.stage, this.#microbatches)
      if (step === null) continue
      struck.seconds = (now - struck.at) / 1000
      struck.stood = step > struck.underway
    }
  }

  committed(now: number): void {
    for (const struck of this.struck) {
      if (struck.seconds === null && struck.blow.what === 'server') struck.seconds = (now - struck.at) / 1000
    }
  }

  /** How many had finished their leases, so that nothing had to move. */
  get stood(): number {
    return this.struck.filter(({ stood }) => stood).length
  }

  /** The longest of some kinds where leases had to move; null when there was none. */
  longest(kinds: ReadonlySet<VolunteerBlow | 'server'>): number | null {
    const seconds = this.struck.flatMap(({ blow, seconds, stood }) =>
      kinds.has(blow.what) && seconds !== null && !stood ? [seconds] : [],
    )
    return seconds.length > 0 ? Math.max(...seconds) : null
  }
}

/** The newest step, if every microbatch of it is leased, at this stage, to one of those present; else null. */
function wholeAt(present: readonly Presence[], stage: number, microbatches: number): number | null {
  const here = present.filter((one) => !one.away)
  const generation = Math.max(0, ...here.map((one) => one.generation))
  const newest = here.filter((one) => one.generation === generation)
  const step = Math.max(0, ...newest.map((one) => one.step))
  const owned = new Set<number>()
  for (const one of newest) if (one.stage === stage && one.step === step) for (const m of one.leases) owned.add(m)
  return owned.size === microbatches ? step : null
}
