/** Owns the exchange of partners: how many microbatches pass between each two replicas of neighbouring stages. */
import type { Distances } from './nearness.ts'

/** Of a round trip, what counts as clearly more or less: guesses err. */
const CLEARLY = 0.25
/** A link more is worth it where it saves `nearerMs` for so many microbatches of a step, and one to be dialled for twice as many. */
const LINK_MICROBATCHES = 8

export class Transport {
  readonly #ups: number[]
  readonly #downs: number[]
  readonly #width: number
  readonly #count: Int32Array
  /** Pairs between which something passes, or did: `i * width + j`, and both places of each. */
  readonly #cells: number[] = []
  /** 1 for those. */
  readonly #met: Uint8Array
  readonly #rows: number[] = []
  readonly #columns: number[] = []
  readonly #ms: Float64Array
  readonly #linked: Uint8Array
  readonly #nearerMs: number
  /** By up: the round trip to the nearest. */
  readonly #leastMs: Float64Array

  /** `ups`, `downs`: how many microbatches each has, as many in all; nothing passes yet. */
  constructor(ups: readonly number[], downs: readonly number[], { ms, linked }: Distances, nearerMs: number) {
    this.#ups = [...ups]
    this.#downs = [...downs]
    this.#width = downs.length
    this.#count = new Int32Array(ups.length * downs.length)
    this.#met = new Uint8Array(this.#count.length)
    this.#ms = ms
    this.#linked = linked
    this.#nearerMs = nearerMs
    this.#leastMs = new Float64Array(ups.length)
    for (let i = 0; i < ups.length; i++)
      this.#leastMs[i] = ms.subarray(i * this.#width, (i + 1) * this.#width).reduce((least, of) => Math.min(least, of))
  }

  /** What passes, in the order in which it was first let. */
  passing(): [up: number, down: number, count: number][] {
    return this.#cells
      .map((at, n): [number, number, number] => [this.#rows[n]!, this.#columns[n]!, this.#count[at]!])
      .filter(([, , count]) => count > 0)
  }

  /** Lets `most` pass between two, or less where either has not so many left. */
  pass(i: number, j: number, most: number): void {
    this.#add(i, j, Math.min(most, this.#ups[i]!, this.#downs[j]!))
  }

  /** Lets whatever is left pass: over links that are there if it can be, else to the nearest. */
  fill(): void {
    for (let i = 0; i < this.#ups.length; i++)
      while (this.#ups[i]! > 0)
        if (!this.#passOn(i, 'near') && !this.#passOn(i, 'used') && !this.#passOn(i, 'linked')) this.#passNearest(i)
  }

  /**
   * Lets each two pairs change partners where that saves clearly, or spares a link. Each exchange lowers one and the same sum of
   * round trips and links, so that they end, and none is ever undone by another.
   * @returns whether any did
   */
  exchange(): boolean {
    let any = false
    for (let a = 0; a < this.#cells.length; a++) {
      const b = this.#bestFor(a)
      if (b < 0) continue
      const [i, j, k, l] = [this.#rows[a]!, this.#columns[a]!, this.#rows[b]!, this.#columns[b]!]
      const moved = Math.min(this.#count[this.#cells[a]!]!, this.#count[this.#cells[b]!]!)
      this.#add(i, j, -moved)
      this.#add(k, l, -moved)
      this.#add(i, l, moved)
      this.#add(k, j, moved)
      any = true
    }
    return any
  }

  /** With which other pair this one gains most by an exchange; -1 where it gains nothing. */
  #bestFor(a: number): number {
    const [cells, rows, columns] = [this.#cells, this.#rows, this.#columns]
    const [count, ms, width, leastMs] = [this.#count, this.#ms, this.#width, this.#leastMs]
    const [one, i, j] = [cells[a]!, rows[a]!, columns[a]!]
    let [best, most] = [-1, 0]
    if (count[one] === 0) return best
    for (let b = 0; b < cells.length; b++) {
      const other = cells[b]!
      const k = rows[b]!
      const l = columns[b]!
      if (count[other] === 0 || i === k || j === l) continue
      const third = i * width + l
      const fourth = k * width + j
      const before = ms[one]! + ms[other]!
      // Most have nothing to gain: no link is spared, and there is none that is clearly shorter.
      const clearly = CLEARLY * before
      if (count[third] === 0 && count[fourth] === 0 && before - leastMs[i]! - leastMs[k]! <= clearly) continue
      const moved = Math.min(count[one]!, count[other]!)
      const more = this.#linksMore(third) + this.#linksMore(fourth)
      const spared = (count[one] === moved ? 1 : 0) + (count[other] === moved ? 1 : 0)
      // In milliseconds, summed over the microbatches of a step.
      const saved = moved * (before - ms[third]! - ms[fourth]! - (more > 0 ? clearly : 0))
      const gain = saved + (spared - more) * LINK_MICROBATCHES * this.#nearerMs
      if (gain > most) [best, most] = [b, gain]
    }
    return best
  }

  #linksMore(at: number): number {
    if (this.#count[at]! > 0) return 0
    return this.#linked[at] ? 1 : 2
  }

  #passNearest(i: number): void {
    const cost = (j: number) => {
      const at = i * this.#width + j
      return this.#linked[at] ? this.#ms[at]! : this.#ms[at]! * (1 + CLEARLY) + this.#nearerMs
    }
    let best = -1
    for (let j = 0; j < this.#width; j++) if (this.#downs[j]! > 0 && (best < 0 || cost(j) < cost(best))) best = j
    this.pass(i, best, Infinity)
  }

  /**
   * Has a replica give what is left to a near one that it has a link to, whose partner gives as much to another, and so on until
   * one is reached that lacks something (breadth first): speeds are never quite the same, and no link is dialled for that.
   * @param over which links: to near ones, to others too where something passes anyway, or all there are
   */
  #passOn(from: number, over: 'near' | 'used' | 'linked'): boolean {
    const [count, width] = [this.#count, this.#width]
    /** By up: the down that gets less of it. By down: the up that gives it more. */
    const lessFor = new Map<number, number>()
    const moreFrom = new Map<number, number>()
    const queue = [from]
    for (const i of queue)
      for (let j = 0; j < width; j++) {
        const at = i * width + j
        if (this.#linked[at] === 0 || moreFrom.has(j)) continue
        const near = this.#ms[at]! <= (1 + CLEARLY) * this.#leastMs[i]! + this.#nearerMs
        if (!near && over !== 'linked' && !(over === 'used' && count[at]! > 0)) continue
        moreFrom.set(j, i)
        if (this.#downs[j]! > 0) {
          this.#shift(from, j, lessFor, moreFrom)
          return true
        }
        for (let k = 0; k < this.#ups.length; k++)
          if (count[k * width + j]! > 0 && k !== from && !lessFor.has(k)) {
            lessFor.set(k, j)
            queue.push(k)
          }
      }
    return false
  }

  /** As much as can pass all along the way that leads back from `to`. */
  #shift(from: number, to: number, lessFor: Map<number, number>, moreFrom: Map<number, number>): void {
    const way: [up: number, more: number, less: number | null][] = []
    let moved = Math.min(this.#ups[from]!, this.#downs[to]!)
    for (let j: number | null = to; j !== null;) {
      const i: number = moreFrom.get(j)!
      const less: number | null = i === from ? null : lessFor.get(i)!
      if (less !== null) moved = Math.min(moved, this.#count[i * this.#width + less]!)
      way.push([i, j, less])
      j = less
    }
    for (const [i, more, less] of way) {
      this.#add(i, more, moved)
      if (less !== null) this.#add(i, less, -moved)
    }
  }

  #add(i: number, j: number, count: number): void {
    const at = i * this.#width + j
    if (count > 0 && this.#met[at] === 0) {
      this.#met[at] = 1
      this.#cells.push(at)
      this.#rows.push(i)
      this.#columns.push(j)
    }
    this.#count[at]! += count
    this.#ups[i]! -= count
    this.#downs[j]! -= count
  }
}
