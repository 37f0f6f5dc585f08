/** Owns one life of the stage Worker, together with the peer session that runs for it in the page. */
import * as Comlink from 'comlink'
import type { PeerSession } from '../net/peerSession.ts'
import { toErrorBody, type ErrorBody } from '../protocol/errors.ts'
import type { StageEvent, StageStart, StageWorkerApi } from '../stage/workerContract.ts'

export interface StageProcess {
  pause(): void
  resume(): void
  /** Says `leaving`, closes the links at once so that partners need no timeout, and ends the Worker soon after. */
  stop(): void
}

export interface StageProcessOptions {
  start: StageStart
  /** Origin whose connection broker to use. */
  origin: string
  /** Keep data channels in the page and forward. */
  forwardChannels: boolean
  event(event: StageEvent): void
  /** The Worker cannot be used any more; `stop` has been done. At most once. */
  crashed(error: ErrorBody): void
}

/** How long a Worker gets to say goodbye before it is terminated. */
const GOODBYE_MS = 1_000

export function startStageProcess(options: StageProcessOptions): StageProcess {
  const worker = new Worker(new URL('../stage/worker.ts', import.meta.url), { type: 'module', name: 'skein-stage' })
  const api = Comlink.wrap<StageWorkerApi>(worker)
  let ended = false
  let session: PeerSession | null = null

  function end() {
    if (ended) return
    ended = true
    session?.sayGoodbye()
    const goodbye = setTimeout(() => worker.terminate(), GOODBYE_MS)
    api
      .stop()
      .catch(() => {})
      .finally(() => {
        clearTimeout(goodbye)
        worker.terminate()
      })
    session?.close()
  }

  function crash(error: ErrorBody) {
    if (ended) return
    end()
    options.crashed(error)
  }

  worker.onerror = (event) => {
    event.preventDefault()
    crash({
      code: 'stage.crashed',
      message: `The stage Worker failed: ${event.message || 'it could not be loaded'}.`.slice(0, 2000),
      remedy: 'It starts again by itself; if it keeps failing, reload the page.',
    })
  }

  async function begin() {
    // PeerJS tries WebRTC out as soon as it is loaded, so it is loaded only by a page that contributes.
    const { PeerSession } = await import('../net/peerSession.ts')
    if (ended) return
    const { port1, port2 } = new MessageChannel()
    session = new PeerSession({ port: port1, origin: options.origin, forward: options.forwardChannels })
    const page = { event: (event: StageEvent) => (ended ? undefined : options.event(event)) }
    await api.start(options.start, Comlink.proxy(page), Comlink.transfer(port2, [port2]))
  }
  const began = begin()
  began.catch((caught: unknown) => crash(toErrorBody(caught)))

  // In the order of the calls, and after the start. A Worker that ended meanwhile never answers; nobody waits for it.
  let told = began
  const tell = (call: () => Promise<void>) => {
    told = told.then(() => (ended ? undefined : call()))
    told.catch((caught: unknown) => crash(toErrorBody(caught)))
  }
  return { pause: () => tell(() => api.pause()), resume: () => tell(() => api.resume()), stop: end }
}
