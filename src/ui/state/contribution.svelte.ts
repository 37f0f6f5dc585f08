/** Owns this page's volunteer: loads it, remembers whether the person had it on, and keeps its latest snapshot. */
import { toErrorBody } from '../../protocol/errors.ts'
import type { Volunteer, VolunteerPhaseName, VolunteerSnapshot } from '../../volunteer/snapshot.ts'
import { RateMeter } from '../console/rates.ts'
import { primaryAction } from '../words/phase.ts'

const KEY = 'skein.contribute'

/** What is remembered over a reload. */
interface Choice {
  on: boolean
  allowSoftware: boolean
}

export interface ContributionOptions {
  /** Loaded only when needed: the console alone does not pay for WebRTC and the worker. */
  load: () => Promise<Volunteer>
  storage: Pick<Storage, 'getItem' | 'setItem'> | null
  clock?: () => number
  later?: (work: () => void, ms: number) => () => void
}

/**
 * The phases that a step goes through. Training shows at once; leaving it, or what a step has besides, only once that has
 * lasted, for words that flicker tell nothing.
 */
const partsOfStep: ReadonlySet<VolunteerPhaseName> = new Set(['ready', 'training', 'merging'])
const LASTING_MS = 800

/** A member without work in a step still takes part in its merge. */
const isPartOfStep = ({ phase, stage }: VolunteerSnapshot) =>
  partsOfStep.has(phase.name) || (phase.name === 'waiting' && stage !== null)

const nothing = { tokens: 0, steps: 0, upBytes: 0, downBytes: 0 }

const idle: VolunteerSnapshot = {
  phase: { name: 'idle' },
  run: null,
  stage: null,
  stages: null,
  step: null,
  ...nothing,
  credit: 0n,
  refused: 0,
  refusal: null,
  link: 'unknown',
  error: null,
  adapter: null,
  memory: null,
  lifetime: nothing,
}

export class Contribution {
  snapshot = $state.raw<VolunteerSnapshot>(idle)
  readonly #options: ContributionOptions
  readonly #clock: () => number
  readonly #later: NonNullable<ContributionOptions['later']>
  #arrived: VolunteerSnapshot = idle
  #cancelShow: (() => void) | null = null
  readonly #tokens = new RateMeter()
  #volunteer: Promise<Volunteer> | null = null
  #choice: Choice

  constructor(options: ContributionOptions) {
    this.#options = options
    this.#clock = options.clock ?? Date.now
    this.#later = options.later ?? laterByTimer
    this.#choice = readChoice(options.storage)
  }

  /** True once the person switched it on, over reloads, until they pause. */
  get on(): boolean {
    return this.#choice.on
  }

  /**
   * Reads the address and what is remembered. `?start=1` presses the button, `?adapter=software` says that a slow
   * software adapter is fine.
   */
  async begin(query: URLSearchParams): Promise<void> {
    if (query.get('adapter') === 'software') this.#choice = { ...this.#choice, allowSoftware: true }
    if (query.get('start') === '1' || this.#choice.on) await this.start()
  }

  /** Makes the volunteer ready, so that the totals can be shown; starts nothing. */
  async prepare(): Promise<void> {
    await this.#load()
  }

  /** The one button. */
  async press(): Promise<void> {
    switch (primaryAction(this.snapshot)) {
      case 'start':
      case 'retry':
        return this.start()
      case 'pause':
        this.#remember({ ...this.#choice, on: false })
        return (await this.#load())?.pause()
      case 'stop':
        this.#remember({ ...this.#choice, on: false })
        return (await this.#load())?.stop()
      case 'resume':
        this.#remember({ ...this.#choice, on: true })
        return (await this.#load())?.resume()
    }
  }

  async start(allowSoftware = this.#choice.allowSoftware): Promise<void> {
    this.#remember({ on: true, allowSoftware })
    const volunteer = await this.#load()
    volunteer?.start({ allowSoftware })
  }

  /** Tokens per second over the last seconds, or null while unknown. */
  rate(now: number): number | null {
    return this.#tokens.at(now)
  }

  async #load(): Promise<Volunteer | null> {
    try {
      this.#volunteer ??= this.#options.load().then((volunteer) => {
        volunteer.subscribe((snapshot) => {
          this.#tokens.observe(snapshot.tokens, this.#clock())
          this.#show(snapshot)
        })
        return volunteer
      })
      return await this.#volunteer
    } catch (caught) {
      this.#volunteer = null
      const { message } = toErrorBody(caught)
      const remedy = 'Check your connection and reload the page.'
      const error = { code: 'page.load_failed', message: `A part of this page could not be loaded: ${message}`, remedy }
      this.snapshot = { ...this.snapshot, phase: { name: 'blocked', error } }
      return null
    }
  }

  #show(snapshot: VolunteerSnapshot): void {
    const shown = this.snapshot.phase
    this.#arrived = snapshot
    const begins = snapshot.phase.name === 'training' && shown.name !== 'merging'
    const sameOrNews = shown.name === snapshot.phase.name || !isPartOfStep(this.snapshot) || !isPartOfStep(snapshot)
    if (begins || sameOrNews) {
      this.#cancelShow?.()
      this.#cancelShow = null
      this.snapshot = snapshot
      return
    }
    this.snapshot = { ...snapshot, phase: shown }
    // Counted from when what is shown ended, whatever came since: steps shorter than this would never let it end.
    this.#cancelShow ??= this.#later(() => {
      this.#cancelShow = null
      this.snapshot = this.#arrived
    }, LASTING_MS)
  }

  #remember(choice: Choice): void {
    this.#choice = choice
    try {
      this.#options.storage?.setItem(KEY, JSON.stringify(choice))
    } catch {
      // A full or forbidden storage costs the resume after a reload, nothing else.
    }
  }
}

function laterByTimer(work: () => void, ms: number): () => void {
  const timer = setTimeout(work, ms)
  return () => clearTimeout(timer)
}

function readChoice(storage: ContributionOptions['storage']): Choice {
  try {
    const read = JSON.parse(storage?.getItem(KEY) ?? 'null') as Partial<Choice> | null
    return { on: read?.on === true, allowSoftware: read?.allowSoftware === true }
  } catch {
    return { on: false, allowSoftware: false }
  }
}
