/** Owns the volunteer of a page: from the person's click to a stage Worker at work, and whatever happens to it after. */
import { backoffMs } from '../net/backoff.ts'
import { toErrorBody, type ErrorBody } from '../protocol/errors.ts'
import { addContribution, NO_CONTRIBUTION, type Contribution, type DeviceStore } from '../store/device.ts'
import type { StageEvent } from '../stage/workerContract.ts'
import { browserEnvironment, type VolunteerEnvironment } from './environment.ts'
import { foldEvent, INITIAL_STATE, sessionContribution, type VolunteerEvent } from './fold.ts'
import { isResting } from './phase.ts'
import { checkFacts, forwardingAskedBy, memoryOffered, softwareAllowedBy } from './preflight.ts'
import type { Volunteer, VolunteerSnapshot } from './snapshot.ts'
import type { StageProcess } from './stageProcess.ts'

export interface VolunteerOptions {
  /** The server's origin, such as `https://skein.example`; the page's own by default. */
  origin?: string
  /** Take a software adapter without asking; by default where the address says `?adapter=software`. */
  allowSoftware?: boolean
  /** Keep data channels in the page and forward; by default where the address says `?channels=forward`. */
  forwardChannels?: boolean
  /** What to offer; by default what the browser says of the machine suggests. */
  memoryBytes?: number
  environment?: VolunteerEnvironment
}

const RESTART_FIRST_MS = 1_000
const RESTART_LONGEST_MS = 60_000
/** Failures in a row, without one committed step between them, after which only a person may try again. */
const MAX_RESTARTS = 8
const SAVE_MS = 10_000
/** After a loss a browser or a driver takes up to minutes until it offers an adapter again. */
const PASSING = new Set(['gpu.no_adapter', 'gpu.no_device'])

/** One volunteer per page; it does nothing until `start`. */
export function createVolunteer(options: VolunteerOptions = {}): Volunteer {
  const environment = options.environment ?? browserEnvironment
  const address = environment.address()
  const origin = options.origin ?? address.origin
  const forwardChannels = options.forwardChannels ?? forwardingAskedBy(address.search)
  const listeners = new Set<(snapshot: VolunteerSnapshot) => void>()
  let state = INITIAL_STATE
  let allowSoftware = options.allowSoftware ?? softwareAllowedBy(address.search)
  let device: DeviceStore | null = null
  let saved: Contribution = NO_CONTRIBUTION
  let receipts: ReturnType<VolunteerEnvironment['openReceipts']> | null = null
  let stage: StageProcess | null = null
  let failures = 0
  let giveUpLeadership: (() => void) | null = null
  let cancelRetry = () => {}
  let cancelSave = () => {}
  let restart = false
  /** Raised whenever what is under way is called off, so that late answers are known as such. */
  let attempt = 0

  function apply(event: VolunteerEvent) {
    const before = state.snapshot
    state = foldEvent(state, event)
    if (state.snapshot !== before) for (const listener of [...listeners]) listener(state.snapshot)
  }

  /** Writes down what was contributed since the last time. */
  function save() {
    const session = sessionContribution(state)
    const more = addContribution(session, {
      tokens: -saved.tokens,
      steps: -saved.steps,
      upBytes: -saved.upBytes,
      downBytes: -saved.downBytes,
    })
    if (!device || Object.values(more).every((value) => value === 0)) return
    saved = session
    // Lost totals are a pity, not a reason to stop.
    device.add(more).catch(() => {})
  }

  function saveRegularly() {
    cancelSave = environment.after(SAVE_MS, () => {
      save()
      saveRegularly()
    })
  }

  /** Ends the Worker, whatever it does. */
  function halt() {
    attempt += 1
    // First of all: on a page that goes away every moment counts until the server knows.
    stage?.stop()
    stage = null
    cancelRetry()
    cancelSave()
    save()
  }

  function block(error: ErrorBody) {
    halt()
    giveUpLeadership?.()
    giveUpLeadership = null
    apply({ type: 'blocked', error })
  }

  /** The Worker or its GPU is gone: a fresh one soon, unless it keeps failing. */
  function down(error: ErrorBody) {
    halt()
    failures += 1
    if (failures > MAX_RESTARTS) return block(error)
    const retryInMs = backoffMs(failures, RESTART_FIRST_MS, RESTART_LONGEST_MS)
    const paused = state.snapshot.phase.name === 'paused'
    apply({ type: 'down', error, retryInMs })
    cancelRetry = environment.after(retryInMs, () => {
      apply({ type: 'retry' })
      void work(paused)
    })
  }

  function stageEvent(event: StageEvent) {
    if (event.type === 'blocked') {
      return failures > 0 && PASSING.has(event.error.code) ? down(event.error) : block(event.error)
    }
    if (event.type === 'deviceLost') return down(event.error)
    if (event.type === 'credited') keep(event)
    if (event.type === 'stats' && event.stats.steps > state.current.steps) failures = 0
    apply(event)
  }

  /** A receipt that cannot be kept is still the server's. */
  function keep({ credited, signed }: Extract<StageEvent, { type: 'credited' }>) {
    receipts ??= environment.openReceipts()
    receipts.then((store) => store.add({ at: environment.now(), credited, signed })).catch(() => {})
  }

  /** Starts the Worker; this tab leads. */
  async function work(paused: boolean) {
    const mine = attempt
    let identity: DeviceStore['identity']
    try {
      identity = (await profile).identity
    } catch (caught) {
      return mine === attempt ? block(toErrorBody(caught)) : undefined
    }
    if (mine !== attempt || stage) return
    const process = environment.startStage({
      start: {
        controlUrl: `${origin.replace(/^http/, 'ws')}/control`,
        apiUrl: `${origin}/api/v1`,
        device: identity,
        allowSoftware,
        memoryBytes: options.memoryBytes ?? memoryOffered(environment.facts().deviceMemoryGiB),
      },
      origin,
      forwardChannels,
      event: (event) => {
        if (stage === process) stageEvent(event)
      },
      crashed: (error) => {
        if (stage === process) down(error)
      },
    })
    stage = process
    saveRegularly()
    if (paused) pause()
    else if (state.snapshot.phase.name === 'paused') stage.pause()
  }

  async function openProfile(): Promise<DeviceStore> {
    device = await environment.openDevice()
    apply({ type: 'profile', contribution: await device.contribution().catch(() => NO_CONTRIBUTION) })
    return device
  }

  function start(request: { allowSoftware?: boolean } = {}) {
    if (request.allowSoftware) allowSoftware = true
    if (!isResting(state.snapshot.phase) || state.snapshot.phase.name === 'otherTab') return
    apply({ type: 'start' })
    const obstacle = checkFacts(environment.facts())
    if (obstacle) return block(obstacle)
    failures = 0
    giveUpLeadership = environment.seekLeadership({
      leading() {
        apply({ type: 'leading' })
        void work(false)
      },
      otherTab: () => apply({ type: 'otherTab' }),
    })
  }

  function pause() {
    if (isResting(state.snapshot.phase)) return
    apply({ type: 'pause' })
    stage?.pause()
    save()
  }

  function resume() {
    if (state.snapshot.phase.name !== 'paused') return
    apply({ type: 'resume' })
    stage?.resume()
  }

  function stop() {
    halt()
    giveUpLeadership?.()
    giveUpLeadership = null
    apply({ type: 'stop' })
  }

  environment.onPage({
    hidden() {
      const { phase } = state.snapshot
      restart = phase.name === 'otherTab' || !(isResting(phase) || phase.name === 'paused')
      if (phase.name === 'otherTab' || !isResting(phase)) stop()
    },
    restored() {
      if (restart) start()
    },
  })
  const profile = openProfile()
  // Said when the person starts, not before.
  profile.catch(() => {})

  return {
    start,
    pause,
    resume,
    stop,
    snapshot: () => state.snapshot,
    subscribe(listener) {
      listeners.add(listener)
      listener(state.snapshot)
      return () => listeners.delete(listener)
    },
  }
}
