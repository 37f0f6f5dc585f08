/** Owns how the command line speaks to `/api/v1`: typed calls, and a run followed until it ends. */
import { z } from 'zod'
import {
  datasetSchema,
  liveEventSchema,
  runDetailSchema,
  runSummarySchema,
  type DatasetView,
  type LaunchRequest,
  type LiveEvent,
  type RunDetail,
  type RunSummary,
  type TokenizerKind,
} from '../../src/protocol/api.ts'
import { errorSchema, fail, SkeinError } from '../../src/protocol/errors.ts'

const exportListSchema = z.array(z.object({ name: z.string().regex(/^[\w.-]+$/), bytes: z.number() }))
/** An event of a long run's snapshot holds all its metrics. */
const MAX_EVENT_CHARACTERS = 256 * 1024 * 1024

export interface ApiClient {
  uploadDataset(name: string, text: string | Uint8Array, tokenizer?: TokenizerKind): Promise<DatasetView>
  launch(request: LaunchRequest): Promise<RunSummary>
  run(id: string): Promise<RunDetail>
  /** The live events of a run; ends when the server closes the stream. */
  live(id: string, signal?: AbortSignal): AsyncGenerator<LiveEvent>
  exportFiles(id: string): Promise<{ name: string; bytes: number }[]>
  exportFile(id: string, name: string): Promise<Uint8Array<ArrayBuffer>>
}

/**
 * @param origin such as `http://127.0.0.1:8080`
 * @param signal ends every call under way
 * @param adminToken what a server asks for from whoever is not on its own machine
 * All methods throw SkeinError: what the server answered, or `api.unreachable`.
 */
export function createApiClient(origin: string, signal?: AbortSignal, adminToken?: string): ApiClient {
  async function call(path: string, init: RequestInit = {}): Promise<Response> {
    const both = [signal, init.signal].filter((s) => s != null)
    let response: Response
    try {
      const headers = new Headers(init.headers)
      if (adminToken) headers.set('authorization', `Bearer ${adminToken}`)
      const ended = both.length ? AbortSignal.any(both) : null
      response = await fetch(`${origin}/api/v1${path}`, { ...init, headers, signal: ended })
    } catch (caught) {
      for (const one of both) one.throwIfAborted()
      const message = `The server at ${origin} does not answer: ${reason(caught)}.`
      throw new SkeinError(
        { code: 'api.unreachable', message, remedy: 'Check that it runs and that the address is right.' },
        { cause: caught },
      )
    }
    if (response.ok) return response
    const body = errorSchema.safeParse(await response.json().catch(() => null))
    if (body.success) throw new SkeinError(body.data)
    return fail('api.status', `The server answered ${response.status} to ${path}.`, 'Look into the server’s log.')
  }
  const json = async <T>(schema: z.ZodType<T>, path: string, init?: RequestInit): Promise<T> =>
    schema.parse(await (await call(path, init)).json())
  const at = (id: string) => `/runs/${encodeURIComponent(id)}`

  return {
    uploadDataset: (name, text, tokenizer = 'byte') =>
      json(datasetSchema, `/datasets?name=${encodeURIComponent(name)}&tokenizer=${tokenizer}`, {
        method: 'POST',
        headers: { 'content-type': 'text/plain' },
        body: typeof text === 'string' ? text : new Uint8Array(text),
      }),
    launch: (request) =>
      json(runSummarySchema, '/runs', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(request),
      }),
    run: (id) => json(runDetailSchema, at(id)),
    async *live(id, ended) {
      const response = await call(`${at(id)}/live`, ended ? { signal: ended } : {})
      for await (const data of eventData(response.body!)) yield liveEventSchema.parse(JSON.parse(data))
    },
    exportFiles: (id) => json(exportListSchema, `${at(id)}/export`),
    exportFile: async (id, name) =>
      new Uint8Array(await (await call(`${at(id)}/export/${encodeURIComponent(name)}`)).arrayBuffer()),
  }
}

function reason(caught: unknown): string {
  const cause = caught instanceof Error ? (caught.cause ?? caught) : caught
  return cause instanceof Error ? cause.message : String(cause)
}

/** The `data` of each server-sent event (HTML standard, 9.2.6): lines until an empty one, comments left out. */
export async function* eventData(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let text = ''
  let lines: string[] = []
  for await (const piece of body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)) {
    text += piece
    if (text.length > MAX_EVENT_CHARACTERS)
      fail('api.event_too_large', 'The server sent an event without end.', 'Update both sides to one version.')
    const parts = text.split(/\r\n|\n|\r/)
    text = parts.pop()!
    for (const line of parts) {
      if (line === '') {
        if (lines.length) yield lines.join('\n')
        lines = []
      } else if (line.startsWith('data:')) lines.push(line.slice(5).replace(/^ /, ''))
    }
  }
}
