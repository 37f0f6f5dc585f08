/** Proves that frames striped over several connections come whole, once and in bounded memory, whatever connection breaks. */
import { describe, expect, it } from 'vitest'
import { LARGEST_WINDOW_BYTES, SLICE_BYTES } from '../../../src/net/limits.ts'
import { Link, PRIORITIES, type Priority } from '../../../src/net/link.ts'
import { SLICE_HEADER_BYTES } from '../../../src/net/slicing.ts'
import { Strand } from '../../../src/net/strand.ts'
import { generator } from './random.ts'
import { Line, Timeline, Wire } from './wire.ts'

/** One end: a link of strands, as PeerLinks holds it. */
class End {
  link: Link | null = null
  readonly arrived: Uint8Array[] = []
  lost = 0
  readonly #name: string
  readonly #time: Timeline
  #count = 0

  constructor(name: string, time: Timeline) {
    this.#name = name
    this.#time = time
  }

  join(wire: Wire, which: 0 | 1): void {
    new Strand({
      strandId: `${this.#name} ${this.#count++}`,
      partner: which === 0 ? 'b' : 'a',
      dialled: which === 0,
      kind: 'direct',
      now: () => this.#time.now,
      later: (milliseconds, run) => this.#time.at(this.#time.now + milliseconds, run),
      connect: wire.end(which),
      ownLink: () => (which === 0 ? '00000001' : '00000002'),
      established: (strand) => {
        if (this.link) this.link.add(strand)
        else this.link = new Link(strand, (bytes) => this.arrived.push(bytes))
      },
      slice: (strand, bytes) => this.link!.accept(bytes, strand.usedAt),
      roomAgain: () => this.link!.pump(),
      closed: (strand) => {
        if (this.link?.strands.has(strand) && !this.link.remove(strand)) this.lost += 1
      },
    })
  }
}

interface Pair {
  time: Timeline
  a: End
  b: End
  wires: Wire[]
}

function pairOver(lines: readonly (readonly [Line, Line])[]): Pair {
  const time = new Timeline()
  const [a, b] = [new End('a', time), new End('b', time)]
  const wires = lines.map((both) => {
    const wire = new Wire(time, both)
    a.join(wire, 0)
    b.join(wire, 1)
    wire.open()
    return wire
  })
  time.run(1_000)
  return { time, a, b, wires }
}

/** A frame that says who it is, everywhere. */
function frameOf(id: number, bytes: number): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(bytes)
  for (let i = 0; i < bytes; i++) frame[i] = (id * 31 + i * 7 + (i >> 8)) & 255
  return frame
}

const numbered = (frames: readonly Uint8Array[]) =>
  frames.map((frame) => `${frame.byteLength}:${frame[0]}`).sort((x, y) => x.localeCompare(y))

describe('striping', () => {
  it('loses nothing and repeats nothing while a connection is left (seeded)', () => {
    for (let seed = 1; seed <= 40; seed++) {
      const random = generator(seed)
      const lines = Array.from({ length: 2 + Math.floor(random() * 4) }, () => {
        const [rate, delay] = [200 + random() * 12_000, 1 + random() * 100]
        return [new Line(rate, delay), new Line(rate, delay)] as const
      })
      const { time, a, b, wires } = pairOver(lines)
      const sent: [Uint8Array[], Uint8Array[]] = [[], []]
      for (let id = 0; id < 60; id++) {
        const frame = frameOf(id, 1 + Math.floor(random() ** 3 * 600_000))
        const priority: Priority = PRIORITIES[Math.floor(random() * 3)]!
        const from = random() < 0.5 ? 0 : 1
        sent[from].push(frame)
        time.at(1_000 + random() * 2_000, () => void [a, b][from]!.link!.send(frame, priority))
      }
      // All but one break, amid everything.
      for (const wire of wires.slice(1)) time.at(1_000 + random() * 3_000, () => wire.break())
      time.run()
      expect([a.lost, b.lost], `seed ${seed}`).toEqual([0, 0])
      expect(numbered(b.arrived), `seed ${seed}`).toEqual(numbered(sent[0]))
      expect(numbered(a.arrived), `seed ${seed}`).toEqual(numbered(sent[1]))
      for (const end of [a, b]) {
        for (const frame of end.arrived) {
          const id = sent.flat().findIndex((one) => one.byteLength === frame.byteLength && one[0] === frame[0])
          expect(Buffer.compare(frame, sent.flat()[id]!), `seed ${seed}`).toBe(0)
        }
      }
    }
  })

  it('holds no more than the connections’ windows, however much waits', () => {
    const line = () => [new Line(12_500, 25), new Line(12_500, 25)] as const
    const { time, a, b } = pairOver([line(), line(), line(), line()])
    let taken = 0
    let most = 0
    for (let id = 0; id < 100; id++) void a.link!.send(frameOf(id, 1_000_000), 'merge').then(() => (taken += 1_000_000))
    for (let at = 1_000; at < 20_000; at += 20) {
      time.at(at, () => {
        const underWay = [...a.link!.strands].reduce((sum, strand) => sum + strand.upBytes, 0) - b.link!.heldBytes
        const delivered = b.arrived.reduce((sum, frame) => sum + frame.byteLength, 0)
        most = Math.max(most, underWay - delivered)
      })
    }
    time.run()
    expect(b.arrived).toHaveLength(100)
    expect(most).toBeLessThan(4 * LARGEST_WINDOW_BYTES)
    void taken
  })

  it('brings a frame over four connections in the time of a quarter of it', () => {
    // Twelve slices.
    const bytes = 12 * (SLICE_BYTES - SLICE_HEADER_BYTES)
    const once = (strands: number) => {
      const { time, a, b } = pairOver(Array.from({ length: strands }, () => [new Line(1_000, 25), new Line(1_000, 25)]))
      const start = time.now
      void a.link!.send(frameOf(1, bytes), 'boundary')
      while (b.arrived.length === 0) time.run(time.now + 1)
      return time.now - start
    }
    expect(once(1)).toBeGreaterThanOrEqual(25 + bytes / 1_000)
    expect(once(4)).toBeLessThanOrEqual(25 + bytes / 4_000 + 2)
  })

  it('overtakes bulk with what is urgent: it waits for less than a window', () => {
    const both = [new Line(12_500, 25), new Line(12_500, 25)] as const
    // Four connections over one line.
    const { time, a, b } = pairOver([both, both, both, both])
    for (let id = 0; id < 60; id++) void a.link!.send(frameOf(id, 1_000_000), 'checkpoint')
    time.run(time.now + 1_500)
    const start = time.now
    void a.link!.send(frameOf(200, 64 * 1024), 'boundary')
    while (!b.arrived.some((frame) => frame.byteLength === 64 * 1024)) time.run(time.now + 1)
    // Without priorities: 60 MB at 12.5 MB/s. An empty line takes 30 ms.
    expect(time.now - start).toBeLessThan(90)
  })
})
