/** Owns the calls to `/api/v1`: each answer is checked against its schema, each failure becomes a SkeinError. */
import { z } from 'zod'
import {
  datasetSchema,
  fleetSchema,
  nodeViewSchema,
  runDetailSchema,
  runSummarySchema,
  type DatasetView,
  type FleetView,
  type LaunchRequest,
  type NodeView,
  type RunDetail,
  type RunSummary,
  type TokenizerKind,
} from '../../protocol/api.ts'
import { quoteSchema, type Quote, type QuoteRequest } from '../../protocol/quote.ts'
import { errorSchema, SkeinError, type ErrorBody } from '../../protocol/errors.ts'
import { runTimelineSchema, type RunTimeline } from '../../protocol/timeline.ts'

const DEADLINE_MS = 20_000
/** An upload may take long; it is given up when this long passes without a byte of progress. */
const UPLOAD_STALL_MS = 60_000

export const API_ROOT = '/api/v1'

/** A failure the server answered with, or `api.unreachable` (status 0) when it did not answer. */
export class ApiError extends SkeinError {
  readonly status: number

  constructor(status: number, body: ErrorBody, options?: ErrorOptions) {
    super(body, options)
    this.name = 'ApiError'
    this.status = status
  }

  /** The server wants the administrator's token, or another one. */
  get needsToken(): boolean {
    // A server without any token has none to ask for; its remedy says how to give it one.
    return (this.status === 401 || this.status === 403) && this.code !== 'access.loopback_only'
  }
}

/** One file of an exported model. */
export const exportFileSchema = z.object({ name: z.string(), bytes: z.number() })
export type ExportFile = z.infer<typeof exportFileSchema>

/** What the calls need from outside, so that they can be tested. */
export interface ApiClientOptions {
  /** The administrator's token, or an empty string. */
  token: () => string
  fetch?: typeof fetch
}

export interface CallOptions {
  /** GET unless told. */
  method?: string
  json?: unknown
}

export class ApiClient {
  readonly #token: () => string
  readonly #fetch: typeof fetch

  constructor(options: ApiClientOptions) {
    this.#token = options.token
    this.#fetch = options.fetch ?? ((input, init) => fetch(input, init))
  }

  datasets(): Promise<DatasetView[]> {
    return this.call('/datasets', z.array(datasetSchema))
  }

  runs(): Promise<RunSummary[]> {
    return this.call('/runs', z.array(runSummarySchema))
  }

  run(id: string): Promise<RunDetail> {
    return this.call(`/runs/${encodeURIComponent(id)}`, runDetailSchema)
  }

  launch(request: LaunchRequest): Promise<RunSummary> {
    return this.call('/runs', runSummarySchema, { method: 'POST', json: request })
  }

  /** What such a run would cost and take; launches nothing. */
  quote(request: QuoteRequest): Promise<Quote> {
    return this.call('/quote', quoteSchema, { method: 'POST', json: request })
  }

  cancel(id: string): Promise<RunSummary> {
    return this.call(`/runs/${encodeURIComponent(id)}/cancel`, runSummarySchema, { method: 'POST', json: {} })
  }

  /** @param budget the new total, in planck */
  raiseBudget(id: string, budget: string): Promise<RunSummary> {
    return this.call(`/runs/${encodeURIComponent(id)}/budget`, runSummarySchema, { method: 'POST', json: { budget } })
  }

  /** Asks for a checkpoint right after the next step; the answer does not wait for it. */
  checkpoint(id: string): Promise<RunSummary> {
    return this.call(`/runs/${encodeURIComponent(id)}/checkpoint`, runSummarySchema, { method: 'POST', json: {} })
  }

  /** Where the time of the last traced steps went. */
  timeline(id: string): Promise<RunTimeline> {
    return this.call(`/runs/${encodeURIComponent(id)}/timeline`, runTimelineSchema)
  }

  exportFiles(id: string): Promise<ExportFile[]> {
    return this.call(`/runs/${encodeURIComponent(id)}/export`, z.array(exportFileSchema))
  }

  exportUrl(id: string, file: string): string {
    return `${API_ROOT}/runs/${encodeURIComponent(id)}/export/${encodeURIComponent(file)}`
  }

  nodes(): Promise<NodeView[]> {
    return this.call('/nodes', z.array(nodeViewSchema))
  }

  fleet(): Promise<FleetView> {
    return this.call('/fleet', fleetSchema)
  }

  /** Uploads UTF-8 text; `onProgress` gets the share sent, from 0 to 1. XMLHttpRequest, because fetch reports no progress. */
  uploadDataset(
    name: string,
    file: Blob,
    tokenizer: TokenizerKind,
    onProgress: (share: number) => void,
  ): Promise<DatasetView> {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest()
      let stalled: ReturnType<typeof setTimeout> | undefined
      const alive = () => {
        clearTimeout(stalled)
        stalled = setTimeout(() => request.abort(), UPLOAD_STALL_MS)
      }
      request.open('POST', `${API_ROOT}/datasets?name=${encodeURIComponent(name)}&tokenizer=${tokenizer}`)
      request.setRequestHeader('content-type', 'text/plain; charset=utf-8')
      for (const [key, value] of Object.entries(this.#authorization())) request.setRequestHeader(key, value)
      request.upload.onprogress = (event) => {
        alive()
        if (event.lengthComputable) onProgress(event.loaded / event.total)
      }
      request.onloadend = () => {
        clearTimeout(stalled)
        try {
          if (request.status === 0) throw unreachable()
          resolve(readBody(request.status, parseJson(request.responseText), datasetSchema))
        } catch (caught) {
          reject(caught as Error)
        }
      }
      alive()
      request.send(file)
    })
  }

  #authorization(): Record<string, string> {
    const token = this.#token()
    return token ? { authorization: `Bearer ${token}` } : {}
  }

  /** @throws ApiError with what the server said, or why nothing it said can be used */
  async call<T>(path: string, schema: z.ZodType<T>, options: CallOptions = {}): Promise<T> {
    const headers: Record<string, string> = { accept: 'application/json', ...this.#authorization() }
    const init: RequestInit = { method: options.method ?? 'GET', headers, signal: AbortSignal.timeout(DEADLINE_MS) }
    if (options.json !== undefined) {
      headers['content-type'] = 'application/json'
      init.body = JSON.stringify(options.json)
    }
    let response: Response
    let text: string
    try {
      response = await this.#fetch(API_ROOT + path, init)
      text = await response.text()
    } catch (cause) {
      throw unreachable(cause)
    }
    return readBody(response.status, parseJson(text), schema)
  }
}

function unreachable(cause?: unknown): ApiError {
  return new ApiError(
    0,
    {
      code: 'api.unreachable',
      message: 'The server did not answer.',
      remedy: 'Check your connection, then try again.',
    },
    { cause },
  )
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function readBody<T>(status: number, body: unknown, schema: z.ZodType<T>): T {
  if (status >= 200 && status < 300) {
    const parsed = schema.safeParse(body)
    if (parsed.success) return parsed.data
    throw new ApiError(
      status,
      {
        code: 'api.unexpected_answer',
        message: 'The server answered in a form this page does not know.',
        remedy: 'Reload the page: it may be older than the server.',
      },
      { cause: parsed.error },
    )
  }
  const error = errorSchema.safeParse(body)
  if (error.success) throw new ApiError(status, error.data)
  throw new ApiError(status, {
    code: 'api.failed',
    message: `The server answered with status ${status} and no explanation.`,
    remedy: 'Try again; if it happens twice, look at the server’s log.',
  })
}
