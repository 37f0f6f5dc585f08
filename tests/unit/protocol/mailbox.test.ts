import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import {
  ACK_DELAY_MS,
  envelopeSchema,
  envelopeText,
  Mailbox,
  RESEND_FIRST_MS,
  RESEND_LONGEST_MS,
  type Envelope,
} from '../../../src/protocol/mailbox.ts'

/** Mulberry32: the same wire for the same seed. */
function dice(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

describe('Mailbox', () => {
  it('carries messages in order, with the acknowledgement of what came riding along', () => {
    const a = new Mailbox<string>()
    const b = new Mailbox<string>()
    const first = a.post('one', 0)
    expect(first).toEqual({ n: 1, a: 0, m: 'one' })
    expect(b.receive(first, 5)).toEqual(['one'])
    const answer = b.post('two', 6)
    expect(answer).toEqual({ n: 1, a: 1, m: 'two' })
    expect(a.pending).toBe(1)
    expect(a.receive(answer, 9)).toEqual(['two'])
    expect(a.pending).toBe(0)
    expect(a.oldestUnacked(100)).toBe(0)
    // The answer carried the acknowledgement: none is owed any more.
    expect(b.due(6 + ACK_DELAY_MS)).toEqual([])
  })

  it('acknowledges alone when nothing rides along, once', () => {
    const a = new Mailbox<string>()
    const b = new Mailbox<string>()
    b.receive(a.post('one', 0), 0)
    b.receive(a.post('two', 0), 50)
    expect(b.due(ACK_DELAY_MS - 1)).toEqual([])
    expect(b.nextDue()).toBe(ACK_DELAY_MS)
    expect(b.due(ACK_DELAY_MS)).toEqual([{ a: 2 }])
    expect(b.due(10 * ACK_DELAY_MS)).toEqual([])
    expect(a.receive({ a: 2 }, 120)).toEqual([])
    expect(a.pending).toBe(0)
    expect(a.nextDue()).toBeNull()
  })

  it('delivers each message once and keeps what overtook another', () => {
    const a = new Mailbox<number>()
    const b = new Mailbox<number>()
    const [one, two, three] = [1, 2, 3].map((value) => a.post(value, 0))
    expect(b.receive(three!, 0)).toEqual([])
    expect(b.receive(two!, 0)).toEqual([])
    expect(b.received).toBe(0)
    expect(b.receive(one!, 0)).toEqual([1, 2, 3])
    for (const again of [one, two, three]) expect(b.receive(again!, 1)).toEqual([])
    expect(b.received).toBe(3)
  })

  it('acknowledges a repeated message again: the acknowledgement may have been lost', () => {
    const a = new Mailbox<number>()
    const b = new Mailbox<number>()
    const one = a.post(1, 0)
    b.receive(one, 0)
    expect(b.due(ACK_DELAY_MS)).toEqual([{ a: 1 }])
    b.receive(one, 500)
    expect(b.due(500 + ACK_DELAY_MS)).toEqual([{ a: 1 }])
  })

  it('sends again after 400 ms, then after twice as long, up to 3 s', () => {
    const a = new Mailbox<string>()
    a.post('lost', 0)
    let now = 0
    const waits: number[] = []
    for (let last = 0; waits.length < 6; last = now) {
      now = a.nextDue()!
      expect(a.due(now - 1)).toEqual([])
      expect(a.due(now)).toEqual([{ n: 1, a: 0, m: 'lost' }])
      waits.push(now - last)
    }
    expect(waits).toEqual([RESEND_FIRST_MS, 800, 1600, RESEND_LONGEST_MS, RESEND_LONGEST_MS, RESEND_LONGEST_MS])
    expect(a.oldestUnacked(now)).toBe(now)
  })

  it('sends again only what was not acknowledged', () => {
    const a = new Mailbox<number>()
    for (let i = 1; i <= 5; i += 1) a.post(i, i)
    a.receive({ a: 3 }, 10)
    expect(a.due(RESEND_FIRST_MS + 5).map(({ m }) => m)).toEqual([4, 5])
  })

  it('goes on over a new line with what the other end lacks', () => {
    const a = new Mailbox<string>({ wire: 'ordered' })
    const b = new Mailbox<string>({ wire: 'ordered' })
    b.receive(a.post('one', 0), 0)
    a.post('two', 1)
    a.post('three', 2)
    expect(a.oldestUnacked(9000)).toBe(9000)
    const rest = a.resumeAt(b.received, 9000)
    expect(rest.map(({ m }) => m)).toEqual(['two', 'three'])
    // What waited for the line is not what waits for an acknowledgement.
    expect(a.oldestUnacked(9000)).toBe(0)
    expect(rest.flatMap((envelope) => b.receive(envelope, 9001))).toEqual(['two', 'three'])
    expect(() => a.resumeAt(0, 9002)).toThrow(expect.objectContaining({ code: 'control.sequence' }))
    expect(() => a.resumeAt(4, 9002)).toThrow(expect.objectContaining({ code: 'control.sequence' }))
  })

  it('never repeats by the clock on an ordered wire, and takes no gap there', () => {
    const a = new Mailbox<number>({ wire: 'ordered' })
    a.post(1, 0)
    expect(a.due(1e6)).toEqual([])
    expect(a.nextDue()).toBeNull()
    expect(() => a.receive({ n: 2, a: 0, m: 7 }, 0)).toThrow(expect.objectContaining({ code: 'control.sequence' }))
  })

  it('refuses an acknowledgement of what was never sent', () => {
    const a = new Mailbox<number>()
    a.post(1, 0)
    expect(() => a.receive({ a: 2 }, 0)).toThrow(expect.objectContaining({ code: 'control.sequence' }))
  })

  it('is bounded in number, bytes and in how far ahead it keeps', () => {
    const few = new Mailbox<string>({ maxQueue: 2 })
    few.post('a', 0)
    few.post('b', 0)
    expect(() => few.post('c', 0)).toThrow(expect.objectContaining({ code: 'control.backlog' }))
    few.receive({ a: 1 }, 0)
    expect(few.post('c', 0)).toMatchObject({ n: 3 })

    const small = new Mailbox<string>({ size: (text) => text.length, maxBytes: 10 })
    small.post('12345678', 0)
    expect(() => small.post('901', 0)).toThrow(expect.objectContaining({ code: 'control.backlog' }))
    small.receive({ a: 1 }, 0)
    small.post('901', 0)

    const ahead = new Mailbox<number>({ maxAhead: 2 })
    expect(ahead.receive({ n: 3, a: 0, m: 3 }, 0)).toEqual([])
    expect(ahead.receive({ n: 2, a: 0, m: 2 }, 0)).toEqual([])
    expect(ahead.receive({ n: 1, a: 0, m: 1 }, 0)).toEqual([1, 2])
  })

  it.each([1, 2, 3, 4, 5])('brings everything through a wire that loses, repeats and reorders (seed %i)', (seed) => {
    const roll = dice(seed)
    const ends = [new Mailbox<number>({ maxAhead: 64 }), new Mailbox<number>({ maxAhead: 64 })] as const
    const got: [number[], number[]] = [[], []]
    const wire: { at: number; to: 0 | 1; envelope: Envelope<number> }[] = []
    const put = (from: number, envelope: Envelope<number>, now: number) => {
      for (let copies = roll() < 0.3 ? 0 : roll() < 0.2 ? 2 : 1; copies > 0; copies -= 1)
        wire.push({ at: now + 1 + Math.floor(roll() * 300), to: from === 0 ? 1 : 0, envelope })
    }
    const messages = 400
    let now = 0
    for (; now < 120_000 && (got[0].length < messages || got[1].length < messages); now += 5) {
      for (const from of [0, 1] as const) {
        if (now / 5 < messages) put(from, ends[from].post(now / 5, now), now)
        for (const envelope of ends[from].due(now)) put(from, envelope, now)
      }
      for (const { to, envelope } of wire.filter(({ at }) => at <= now))
        got[to].push(...ends[to].receive(envelope, now))
      wire.splice(0, wire.length, ...wire.filter(({ at }) => at > now))
    }
    const all = Array.from({ length: messages }, (_, i) => i)
    expect(got).toEqual([all, all])
    for (const end of ends) expect(end.received).toBe(messages)
  })
})

describe('envelopeSchema', () => {
  const schema = envelopeSchema(z.object({ type: z.literal('x'), step: z.int() }))

  it('reads both forms and names the field that is wrong', () => {
    expect(schema.parse({ n: 1, a: 0, m: { type: 'x', step: 3 } })).toEqual({ n: 1, a: 0, m: { type: 'x', step: 3 } })
    expect(schema.parse({ a: 7 })).toEqual({ a: 7 })
    expect(schema.safeParse({ n: 1, a: 0, m: { type: 'x', step: 'three' } }).error!.issues[0]!.path).toEqual([
      'm',
      'step',
    ])
  })

  it.each([
    {},
    { a: -1 },
    { a: 0, n: 0, m: { type: 'x', step: 1 } },
    { a: 0, n: 1 },
    { a: 0, m: { type: 'x', step: 1 } },
  ])('refuses %j', (envelope) => expect(schema.safeParse(envelope).success).toBe(false))

  it('writes what it reads', () => {
    const text = envelopeText({ n: 2, a: 1, m: JSON.stringify({ type: 'x', step: 4 }) })
    expect(schema.parse(JSON.parse(text))).toEqual({ n: 2, a: 1, m: { type: 'x', step: 4 } })
    expect(schema.parse(JSON.parse(envelopeText({ a: 9 })))).toEqual({ a: 9 })
  })
})
