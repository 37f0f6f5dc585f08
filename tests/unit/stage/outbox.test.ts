/** Proves which tensors go out once more when they are asked for again, and that each goes in the end. */
import { beforeEach, describe, expect, it } from 'vitest'
import { Outbox } from '../../../src/stage/outbox.ts'

interface Leaving {
  to: string
  left: () => Promise<void>
  failed: (why: Error) => Promise<void>
}

const settled = () => new Promise<void>((resolve) => setImmediate(resolve))
let now = 0
let given: Leaving[]
let failures: [string, unknown][]
let outbox: Outbox

beforeEach(() => {
  now = 0
  given = []
  failures = []
  const send = (to: string) =>
    new Promise<void>((resolve, reject) => {
      const left = () => (resolve(), settled())
      const failed = (why: Error) => (reject(why), settled())
      given.push({ to, left, failed })
    })
  outbox = new Outbox(
    send,
    (nodeId, caught) => failures.push([nodeId, caught]),
    () => now,
  )
})

const bytes = () => new Uint8Array(1)
const again = (to = 'a', key = 'k') => outbox.send(to, key, 'again', bytes, 'boundary')

describe('a tensor that is asked for again', () => {
  it('is not sent while it is on its way, and not for a while after', async () => {
    expect(outbox.send('a', 'k', 'first', bytes, 'boundary')).toBe(true)
    now = 60_000
    expect(again()).toBe(false)
    await given[0]!.left()
    now += 1_999
    expect(again()).toBe(false)
    now += 1
    expect(again()).toBe(true)
    expect(given).toHaveLength(2)
  })

  it('is sent after ever longer pauses, but sent: its receiver may have refused it', async () => {
    outbox.send('a', 'k', 'first', bytes, 'boundary')
    const sentAt: number[] = []
    for (let i = 0; i < 7; i++) {
      await given.at(-1)!.left()
      const from = now
      while (!again()) now += 1_000
      sentAt.push(now - from)
    }
    expect(sentAt).toEqual([2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000])
  })

  it('is sent at once to another node, at another address, and after its link was lost', async () => {
    outbox.send('a', 'k', 'first', bytes, 'boundary')
    expect(again('b')).toBe(true)
    expect(again('a', 'other')).toBe(true)
    await given[0]!.left()
    expect(again()).toBe(false)
    outbox.lost('b')
    expect(again()).toBe(false)
    outbox.lost('a')
    expect(again()).toBe(true)
  })

  it('is sent at once when it failed to leave, and the failure is told', async () => {
    outbox.send('a', 'k', 'first', bytes, 'boundary')
    const why = new Error('gone')
    await given[0]!.failed(why)
    expect(failures).toEqual([['a', why]])
    expect(again()).toBe(true)
  })

  it('is forgotten with its step, unless it is still on its way', async () => {
    for (const key of ['left', 'leaving']) outbox.send('a', key, 'first', bytes, 'boundary')
    await given[0]!.left()
    now = 2_000
    again('a', 'left')
    await given[2]!.left()
    outbox.forget()
    expect(again('a', 'left')).toBe(false)
    now = 6_000
    outbox.forget()
    expect(again('a', 'leaving')).toBe(false)
    expect(again('a', 'left')).toBe(true)
    await given[3]!.left()
    now += 2_000
    // Its pauses begin anew.
    expect(again('a', 'left')).toBe(true)
  })
})

it('puts a question again as soon as it has left, not while it waits', async () => {
  expect(outbox.send('a', 'k', 'want', bytes, 'boundary')).toBe(true)
  expect(outbox.send('a', 'k', 'want', bytes, 'boundary')).toBe(false)
  await given[0]!.left()
  expect(outbox.send('a', 'k', 'want', bytes, 'boundary')).toBe(true)
})

it('makes no frame of what it does not send', () => {
  let made = 0
  const frame = () => ((made += 1), new Uint8Array(1))
  outbox.send('a', 'k', 'first', frame, 'boundary')
  outbox.send('a', 'k', 'again', frame, 'boundary')
  expect(made).toBe(1)
})
