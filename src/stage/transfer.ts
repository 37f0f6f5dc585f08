/** Owns the node's HTTP transfers of bytes: whole or not at all, tried again, with a deadline each. */
import { backoffMs } from '../net/backoff.ts'
import { SkeinError } from '../protocol/errors.ts'

const ATTEMPTS = 5
const ATTEMPT_DEADLINE_MS = 60_000
const RETRY_FIRST_MS = 300
const RETRY_LONGEST_MS = 5000

/**
 * Fetches exactly `length` bytes.
 * @throws SkeinError `transfer.failed` after {@link ATTEMPTS} attempts; the signal's reason when aborted.
 */
export async function fetchBytes(
  url: string,
  init: RequestInit & { signal: AbortSignal },
  length: number,
): Promise<Uint8Array<ArrayBuffer>> {
  return attempt(url, init, async (response) => {
    const bytes = new Uint8Array(await response.arrayBuffer())
    if (bytes.byteLength !== length) throw new Error(`${bytes.byteLength} bytes came where ${length} were due`)
    return bytes
  })
}

/** Sends `body` by PUT, with the same patience. */
export async function putBytes(
  url: string,
  token: string,
  body: Uint8Array<ArrayBuffer>,
  signal: AbortSignal,
): Promise<void> {
  const headers = { Authorization: `Bearer ${token}`, 'Content-Type': 'application/octet-stream' }
  await attempt(url, { method: 'PUT', headers, body, signal }, async () => undefined)
}

async function attempt<T>(
  url: string,
  init: RequestInit & { signal: AbortSignal },
  read: (response: Response) => Promise<T>,
): Promise<T> {
  let last: unknown
  for (let failures = 0; failures < ATTEMPTS; failures++) {
    if (failures > 0) await pause(backoffMs(failures, RETRY_FIRST_MS, RETRY_LONGEST_MS), init.signal)
    try {
      const signal = AbortSignal.any([init.signal, AbortSignal.timeout(ATTEMPT_DEADLINE_MS)])
      const response = await fetch(url, { ...init, signal })
      if (!response.ok)
        throw new Error(`the server answered ${response.status}: ${(await response.text()).slice(0, 200)}`)
      return await read(response)
    } catch (caught) {
      init.signal.throwIfAborted()
      last = caught
    }
  }
  throw new SkeinError({
    code: 'transfer.failed',
    message: `A transfer with the server failed ${ATTEMPTS} times: ${last instanceof Error ? last.message : String(last)}.`,
    remedy: 'Check the connection to the server; the device tries again with its next assignment.',
  })
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms)
    signal.addEventListener('abort', () => (clearTimeout(timer), reject(signal.reason as Error)), { once: true })
  })
}
