/** Owns the simulation's time and chance: an event queue on a virtual clock and a seeded generator; nothing here is real. */

/** Mulberry32 (T. Ettinger): 32 bits of state, good enough to shuffle events, the same on every machine. */
export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** Uniform in [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
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

const nothing = () => {}

/**
 * A heap of things to do, in milliseconds of virtual time; what is due at one moment happens in order of asking. Times
 * and orders lie in typed arrays: a big fleet asks for a million things, with tens of thousands under way.
 */
export class Clock {
  now = 0
  /** How many things were done. */
  events = 0
  /** Over the time and the order of everything done: two runs of one seed agree in it. */
  hash = 0
  #order = 0
  #size = 0
  #at = new Float64Array(1024)
  #orders = new Float64Array(1024)
  #runs: (() => void)[] = []

  after(delay: number, run: () => void): void {
    if (this.#size === this.#at.length) this.#grow()
    const times = this.#at
    const orders = this.#orders
    const runs = this.#runs
    const at = this.now + delay
    let i = this.#size++
    while (i > 0) {
      const parent = (i - 1) >> 2
      // What is asked for later has the higher order: among equals it stays below.
      if (times[parent]! <= at) break
      times[i] = times[parent]!
      orders[i] = orders[parent]!
      runs[i] = runs[parent]!
      i = parent
    }
    times[i] = at
    orders[i] = this.#order++
    runs[i] = run
  }

  /** Does the next thing; false when there is none. */
  step(): boolean {
    if (this.#size === 0) return false
    const times = this.#at
    const orders = this.#orders
    const runs = this.#runs
    const at = times[0]!
    const order = orders[0]!
    const run = runs[0]!
    const size = --this.#size
    const lastAt = times[size]!
    const lastOrder = orders[size]!
    const lastRun = runs[size]!
    // Not kept alive by the place it had.
    runs[size] = nothing
    if (size > 0) {
      let i = 0
      // Four children a place: a queue of tens of thousands is half as deep, and the children lie side by side.
      for (let first = 1; first < size; first = 4 * i + 1) {
        let child = first
        let childAt = times[first]!
        const end = first + 4 < size ? first + 4 : size
        for (let other = first + 1; other < end; other++) {
          const otherAt = times[other]!
          if (otherAt < childAt || (otherAt === childAt && orders[other]! < orders[child]!)) {
            child = other
            childAt = otherAt
          }
        }
        if (childAt > lastAt || (childAt === lastAt && orders[child]! > lastOrder)) break
        times[i] = childAt
        orders[i] = orders[child]!
        runs[i] = runs[child]!
        i = child
      }
      times[i] = lastAt
      orders[i] = lastOrder
      runs[i] = lastRun
    }
    this.now = at
    this.events++
    this.hash = Math.imul(this.hash ^ (order | 0) ^ ((at * 1000) | 0), 0x01000193)
    run()
    return true
  }

  #grow(): void {
    const wider = (old: Float64Array<ArrayBuffer>) => {
      const wide = new Float64Array(2 * old.length)
      wide.set(old)
      return wide
    }
    this.#at = wider(this.#at)
    this.#orders = wider(this.#orders)
  }
}
