/** Owns the connection to a run's event stream: it reconnects by itself and always says whether it is live. */
import { liveEventSchema, type LiveEvent } from '../../protocol/api.ts'
import { API_ROOT } from './client.ts'

export type LiveStatus = 'connecting' | 'live' | 'reconnecting'

const FIRST_RETRY_MS = 1000
const LAST_RETRY_MS = 15_000

/** The part of EventSource used here. */
export interface EventStream {
  onopen: ((event: Event) => void) | null
  onerror: ((event: Event) => void) | null
  onmessage: ((event: MessageEvent<string>) => void) | null
  close(): void
}

export interface LiveOptions {
  onEvent: (event: LiveEvent) => void
  onStatus: (status: LiveStatus) => void
  open?: (url: string) => EventStream
  later?: (work: () => void, ms: number) => () => void
}

/**
 * Follows `GET /api/v1/runs/:id/live` until the returned function is called. The browser's own retry gives up on an
 * HTTP error (a server that restarts behind a proxy), so each failure opens a fresh stream, a little later each time.
 * A stream starts with a snapshot, so nothing is lost across a gap.
 */
export function followRun(runId: string, options: LiveOptions): () => void {
  const open = options.open ?? ((url: string): EventStream => new EventSource(url))
  const later = options.later ?? laterByTimer
  let stream: EventStream | null = null
  let cancelRetry = () => {}
  let retryMs = FIRST_RETRY_MS

  const connect = () => {
    const current = open(`${API_ROOT}/runs/${encodeURIComponent(runId)}/live`)
    stream = current
    current.onmessage = (message) => {
      const event = readEvent(message.data)
      if (!event || stream !== current) return
      retryMs = FIRST_RETRY_MS
      options.onStatus('live')
      options.onEvent(event)
    }
    current.onerror = () => {
      if (stream !== current) return
      current.close()
      stream = null
      options.onStatus('reconnecting')
      cancelRetry = later(connect, retryMs)
      retryMs = Math.min(retryMs * 2, LAST_RETRY_MS)
    }
  }

  options.onStatus('connecting')
  connect()
  return () => {
    cancelRetry()
    stream?.close()
    stream = null
  }
}

/** Null for what a newer server may send and this page does not know. */
function readEvent(data: string): LiveEvent | null {
  try {
    const parsed = liveEventSchema.safeParse(JSON.parse(data))
    return parsed.success ? parsed.data : null
  } catch {
    return null
  }
}

function laterByTimer(work: () => void, ms: number): () => void {
  const timer = setTimeout(work, ms)
  return () => clearTimeout(timer)
}
