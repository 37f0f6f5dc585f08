/** Owns what `skein ledger` gets from a server: the export as a file, and answers as JSON. */
import { createWriteStream } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { ReadableStream } from 'node:stream/web'
import { errorSchema, fail, SkeinError } from '../../../src/protocol/errors.ts'

/** Milliseconds until a server has to have begun its answer. */
const ANSWER_MS = 30_000
/** Bytes of a JSON answer at most. */
const MAX_JSON = 16 * 1024 * 1024

async function ask(origin: string, path: string): Promise<Response> {
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(new Error(`no answer in ${ANSWER_MS / 1000} s`)), ANSWER_MS)
  let response: Response
  try {
    response = await fetch(`${origin}/api/v1${path}`, { signal: late.signal })
  } catch (caught) {
    const cause = caught instanceof Error ? (caught.cause ?? caught) : caught
    throw new SkeinError(
      {
        code: 'api.unreachable',
        message: `The server at ${origin} does not answer: ${cause instanceof Error ? cause.message : String(cause)}.`,
        remedy: 'Check that it runs and that the address is right.',
      },
      { cause: caught },
    )
  } finally {
    clearTimeout(timer)
  }
  if (response.ok) return response
  const body = errorSchema.safeParse(await response.json().catch(() => null))
  if (body.success) throw new SkeinError(body.data)
  return fail('api.status', `The server answered ${response.status} to ${path}.`, 'Look into the server’s log.')
}

/** @throws SkeinError what the server answered, or `api.*` */
export async function askJson(origin: string, path: string): Promise<unknown> {
  const response = await ask(origin, path)
  let text = ''
  for await (const piece of response.body!.pipeThrough(
    new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>,
  )) {
    text += piece
    if (text.length > MAX_JSON) fail('api.too_large', 'The answer has no end.', 'Update both sides to one version.')
  }
  try {
    return JSON.parse(text)
  } catch {
    return fail(
      'api.not_json',
      `The answer to ${path} is not JSON.`,
      'Check that the address is that of a Skein server.',
    )
  }
}

/** Leaves the whole export in `file`, or nothing. @throws SkeinError what the server answered, `api.*`, `ledger.file` */
export async function exportLedger(origin: string, file: string): Promise<number> {
  const response = await ask(origin, '/ledger/export')
  const part = `${file}.part`
  try {
    await pipeline(Readable.fromWeb(response.body as ReadableStream<Uint8Array>), createWriteStream(part))
    await rename(part, file)
  } catch (caught) {
    await rm(part, { force: true })
    const why = caught instanceof Error ? caught.message : String(caught)
    throw new SkeinError(
      { code: 'ledger.file', message: `The export could not be kept in ${file}: ${why}`, remedy: 'Try again.' },
      { cause: caught },
    )
  }
  console.log(`Wrote ${file}. Check it with: npx skein ledger verify ${file}`)
  return 0
}
