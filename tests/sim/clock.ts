/** Owns the simulation's time and chance: an event queue on a virtual clock and a seeded generator; nothing here is real. */

/** Mulberry32 (T. Ettinger): 32 bits of state, good enough to shuffle events, the same on every machine. */
export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** Uniform in [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }

  between(low: number, high: number): number {
    return low + (high - low) * this.next()
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  pick<T>(list: readonly T[]): T | undefined {
    return list[Math.floor(this.next() * list.length)]
  }
}

interface Entry {
  at: number
  order: number
  run: () => void
}

/** A binary heap of things to do, in milliseconds of virtual time; what is due at one moment happens in order of asking. */
export class Clock {
  now = 0
  #order = 0
  readonly #heap: Entry[] = []

  after(delay: number, run: () => void): void {
    const heap = this.#heap
    heap.push({ at: this.now + delay, order: this.#order++, run })
    for (let i = heap.length - 1; i > 0;) {
      const parent = (i - 1) >> 1
      if (before(heap[parent]!, heap[i]!)) break
      ;[heap[parent], heap[i]] = [heap[i]!, heap[parent]!]
      i = parent
    }
  }

  /** Does the next thing; false when there is none. */
  step(): boolean {
    const heap = this.#heap
    const first = heap[0]
    if (!first) return false
    const last = heap.pop()!
    if (heap.length > 0) {
      heap[0] = last
      for (let i = 0; ;) {
        let least = i
        for (const child of [2 * i + 1, 2 * i + 2])
          if (child < heap.length && before(heap[child]!, heap[least]!)) least = child
        if (least === i) break
        ;[heap[least], heap[i]] = [heap[i]!, heap[least]!]
        i = least
      }
    }
    this.now = first.at
    first.run()
    return true
  }
}

const before = (a: Entry, b: Entry) => a.at < b.at || (a.at === b.at && a.order < b.order)
