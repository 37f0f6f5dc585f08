/** Proves that a server that is away for a while costs a node nothing but the wait, and that the wait has an end. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { SkeinError } from '../../../src/protocol/errors.ts'
import { patiently } from '../../../src/stage/patience.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const failed = (code = 'transfer.failed') => new SkeinError({ code, message: 'No.', remedy: '' })

it('tries a transfer again until the server is back', async () => {
  let tries = 0
  const tried = patiently(
    () => ((tries += 1) < 20 ? Promise.reject(failed()) : Promise.resolve('there')),
    () => true,
  )
  await vi.advanceTimersByTimeAsync(30_000)
  expect(await tried).toBe('there')
})

it.each([
  ['the server stays away', failed(), () => true],
  ['nobody needs it any more', failed(), () => false],
  ['another try would not mend it', failed('blob.hash_mismatch'), () => true],
])('ends with the error when %s', async (_, error, goesOn) => {
  const outcome = patiently(() => Promise.reject(error), goesOn).catch((caught: unknown) => caught)
  await vi.advanceTimersByTimeAsync(120_000)
  expect(await outcome).toBe(error)
})
