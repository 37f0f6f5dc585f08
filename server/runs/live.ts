/** Owns the server-sent event stream of one run. */
import { PassThrough } from 'node:stream'
import type { LiveEvent } from '../../src/protocol/api.ts'
import { fail } from '../../src/protocol/errors.ts'
import type { RunControl } from './port.ts'

const HEARTBEAT_MS = 15_000
/** A reader that is this far behind is cut off; it reconnects and starts from a snapshot. */
const MAX_BEHIND_BYTES = 8 * 1024 * 1024
const MAX_STREAMS = 2000

export interface LiveStreams {
  /**
   * The stream of a run; it unsubscribes when its reader goes.
   * @throws SkeinError `run.unknown`, `live.too_many`
   */
  open(runId: string): Promise<PassThrough>
  /** Ends every stream, so that a closing server need not wait for readers. */
  close(): void
}

export function createLiveStreams(runs: RunControl): LiveStreams {
  const streams = new Set<PassThrough>()
  return {
    async open(runId) {
      if (streams.size >= MAX_STREAMS)
        fail(
          'live.too_many',
          `${streams.size} readers follow runs already.`,
          'Close other tabs, or poll the run instead.',
        )
      const stream = new PassThrough()
      const write = (text: string) => {
        if (stream.writableEnded || stream.destroyed) return
        if (stream.writableLength + stream.readableLength > MAX_BEHIND_BYTES) stream.destroy()
        else stream.write(text)
      }
      streams.add(stream)
      let unsubscribe = () => {}
      const heartbeat = setInterval(() => write(': still here\n\n'), HEARTBEAT_MS)
      const release = () => {
        clearInterval(heartbeat)
        streams.delete(stream)
        unsubscribe()
        unsubscribe = () => {}
      }
      stream.on('close', release)
      try {
        const stop = await runs.subscribe(runId, (event: LiveEvent) => write(`data: ${JSON.stringify(event)}\n\n`))
        if (stream.destroyed) stop()
        else unsubscribe = stop
      } catch (caught) {
        stream.destroy()
        release()
        throw caught
      }
      return stream
    },
    close() {
      for (const stream of streams) stream.end()
    },
  }
}
