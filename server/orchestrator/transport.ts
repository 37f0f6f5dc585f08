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
  /** Where `#count` is, or was, above 0: `i * width + j`. */
  readonly #cells: number[] = []
  readonly #ms: Float64Array
  readonly #linked: Uint8Array
  readonly #nearerMs: number
  /** By up: how long a round trip to one of the nearest is. */
  readonly #nearMs: Float64Array

  /** `ups`, `downs`: how many microbatches each has, as many in all; nothing passes yet. */
  constructor(ups: readonly number[], downs: readonly number[], { ms, linked }: Distances, nearerMs: number) {
    this.#ups = [...ups]
    this.#downs = [...downs]
    this.#width = downs.length
    this.#count = new Int32Array(ups.length * downs.length)
    this.#ms = ms
    this.#linked = linked
    this.#nearerMs = nearerMs
    this.#nearMs = new Float64Array(ups.length).fill(Infinity)
    for (const [at, length] of ms.entries()) {
      const i = Math.floor(at / this.#width)
      this.#nearMs[i] = Math.min(this.#nearMs[i]!, (1 + CLEARLY) * length + nearerMs)
    }
  }

  /** What passes, in the order in which it was first let. */
  passing(): [up: number, down: number, count: number][] {
    return this.#cells.flatMap((at): [number, number, number][] =>
      this.#count[at]! > 0 ? [[Math.floor(at / this.#width), at % this.#width, this.#count[at]!]] : [],
    )
  }

  /** Lets `most` pass between two, or less where either has not so many left. */
  pass(i: number, j: number, most: number): void {
    this.#add(i, j, Math.min(most, this.#ups[i]!, this.#downs[j]!))
  }

  /** Lets whatever is left pass: over links that are there if it can be, else to the nearest. */
  fill(): void {
    for (let i = 0; i < this.#ups.length; i++)
      while (this.#ups[i]! > 0) if (!this.#passOn(i, false) && !this.#passOn(i, true)) this.#passNearest(i)
  }

  /**
   * Lets each two pairs change partners where that saves clearly, or spares a link. Each exchange lowers one and the same sum of
   * round trips and links, so that they end, and none is ever undone by another.
   * @returns whether any did
   */
  exchange(): boolean {
    const [cells, count, width] = [this.#cells, this.#count, this.#width]
    let any = false
    for (let a = 0; a < cells.length; a++) {
      const one = cells[a]!
      let [best, most] = [-1, 0]
      for (let b = 0; b < cells.length && count[one]! > 0; b++) {
        const gain = this.#gain(one, cells[b]!)
        if (gain > most) [best, most] = [cells[b]!, gain]
      }
      if (best < 0) continue
      const [i, j, k, l] = [Math.floor(one / width), one % width, Math.floor(best / width), best % width]
      const moved = Math.min(count[one]!, count[best]!)
      this.#add(i, j, -moved)
      this.#add(k, l, -moved)
      this.#add(i, l, moved)
      this.#add(k, j, moved)
      any = true
    }
    return any
  }

  /** In milliseconds, summed over the microbatches of a step. */
  #gain(one: number, other: number): number {
    const [count, ms, width] = [this.#count, this.#ms, this.#width]
    const [i, j, k, l] = [Math.floor(one / width), one % width, Math.floor(other / width), other % width]
    if (count[other] === 0 || i === k || j === l) return 0
    const [third, fourth] = [i * width + l, k * width + j]
    const moved = Math.min(count[one]!, count[other]!)
    const before = ms[one]! + ms[other]!
    const more = this.#linksMore(third) + this.#linksMore(fourth)
    const spared = (count[one] === moved ? 1 : 0) + (count[other] === moved ? 1 : 0)
    const saved = before - ms[third]! - ms[fourth]! - (more > 0 ? CLEARLY * before : 0)
    return moved * saved + (spared - more) * LINK_MICROBATCHES * this.#nearerMs
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
   * @param farther also over links to others, where something passes anyway
   */
  #passOn(from: number, farther: boolean): boolean {
    const [count, width] = [this.#count, this.#width]
    /** By up: the down that gets less of it. By down: the up that gives it more. */
    const lessFor = new Map<number, number>()
    const moreFrom = new Map<number, number>()
    const queue = [from]
    for (const i of queue)
      for (let j = 0; j < width; j++) {
        const at = i * width + j
        if (this.#linked[at] === 0 || moreFrom.has(j)) continue
        if (this.#ms[at]! > this.#nearMs[i]! && !(farther && count[at]! > 0)) continue
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
    if (count > 0 && this.#count[at] === 0 && !this.#cells.includes(at)) this.#cells.push(at)
    this.#count[at]! += count
    this.#ups[i]! -= count
    this.#downs[j]! -= count
  }
}
