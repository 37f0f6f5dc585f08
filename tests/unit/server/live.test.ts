/** Owns the proof that live streams start with a snapshot, pass changes on, and end when reader or server goes. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { createLiveStreams } from '../../../server/runs/live.ts'
import { liveEventSchema } from '../../../src/protocol/api.ts'
import { detail as runDetail } from './fakeRuns.ts'
import { openFixture } from './appFixture.ts'
import type { Fixture } from './appFixture.ts'

let fixture: Fixture
let url: string
beforeEach(async () => {
  fixture = await openFixture()
  url = await fixture.app.listen({ host: '127.0.0.1', port: 0 })
})
afterEach(() => fixture.close())

const metric = { step: 4, loss: 4, gradNorm: 1, lr: 0.1, tokens: 768, durationMs: 10, at: 5 }

/** Reads events from a response, one a call; null at its end. */
function eventsOf(response: Response): () => Promise<unknown> {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
  let text = ''
  return async () => {
    for (;;) {
      const end = text.indexOf('\n\n')
      if (end >= 0) {
        const block = text.slice(0, end)
        text = text.slice(end + 2)
        if (block.startsWith('data: ')) return liveEventSchema.parse(JSON.parse(block.slice(6)))
        continue
      }
      const { value, done } = await reader.read()
      if (done) return null
      text += value
    }
  }
}

it('opens with a snapshot, then tells every change, and unsubscribes when the reader goes', async () => {
  const reader = new AbortController()
  const response = await fetch(`${url}/api/v1/runs/r1/live`, { signal: reader.signal })
  expect(response.headers.get('content-type')).toContain('text/event-stream')
  expect(response.headers.get('cache-control')).toBe('no-store')
  const next = eventsOf(response)
  expect(await next()).toMatchObject({ type: 'snapshot', detail: { id: 'r1' } })
  for (const listener of fixture.runs.listeners) listener({ type: 'metric', metric })
  expect(await next()).toEqual({ type: 'metric', metric })
  reader.abort()
  await vi.waitFor(() => expect(fixture.runs.listeners.size).toBe(0))
})

it('ends when the server closes, so that closing does not wait for readers', async () => {
  const next = eventsOf(await fetch(`${url}/api/v1/runs/r1/live`))
  await next()
  await fixture.app.close()
  expect(await next()).toBeNull()
  expect(fixture.runs.listeners.size).toBe(0)
})

it('refuses an unknown run with an error body', async () => {
  const response = await fetch(`${url}/api/v1/runs/nope/live`)
  expect([response.status, (await response.json()).code]).toEqual([404, 'run.unknown'])
})

it('cuts off a reader that falls behind', async () => {
  const stream = await createLiveStreams(fixture.runs).open('r1')
  stream.on('error', () => {})
  const text = 'x'.repeat(100_000)
  for (let i = 0; i < 200; i++) {
    for (const listener of fixture.runs.listeners)
      listener({ type: 'detail', detail: { ...runDetail(), detail: text } })
  }
  expect(stream.destroyed).toBe(true)
  await vi.waitFor(() => expect(fixture.runs.listeners.size).toBe(0))
})
