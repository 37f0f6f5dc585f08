/** Owns the places of a plan's tensors: buffers that plans of one owner share, lent and given back while they are recorded. */
import type { BufferPool, PooledBuffer } from './buffers.ts'

/**
 * The buffers that plans of one owner share. A plan lends and releases while it is recorded, so every tensor gets its
 * place by lifetime, once; the next plan begins with all of them free, because plans run one after another.
 */
export class Workspace {
  readonly #pool: BufferPool
  readonly #buffers: PooledBuffer[] = []
  #free: PooledBuffer[] = []
  /** What the plan being recorded has lent at some time. */
  #touched = new Set<GPUBuffer>()

  constructor(pool: BufferPool) {
    this.#pool = pool
  }

  /** Bytes of all buffers. */
  get bytes(): number {
    return this.#buffers.reduce((sum, { bytes }) => sum + bytes, 0)
  }

  /** Every buffer is free again: a new plan is about to be recorded. */
  restart(): void {
    this.#free = [...this.#buffers]
    this.#touched = new Set()
  }

  /** A buffer of at least `size` bytes; with `untouched` one that the plan being recorded has not used before. */
  lend(size: number, label?: string, untouched = false): PooledBuffer {
    // The tightest that holds it; one far too large is left for what needs it.
    const fitting = this.#free.filter(({ bytes, buffer }) => {
      return bytes >= size && bytes <= Math.max(8 * size, 4096) && !(untouched && this.#touched.has(buffer))
    })
    const best = fitting.sort((a, b) => a.bytes - b.bytes)[0]
    if (!best) {
      const made = this.#pool.allocate(size, label)
      this.#buffers.push(made)
      this.#touched.add(made.buffer)
      return made
    }
    this.#touched.add(best.buffer)
    this.#free.splice(this.#free.indexOf(best), 1)
    return { ...best, size }
  }

  giveBack(lent: PooledBuffer): void {
    const own = this.#buffers.find(({ buffer }) => buffer === lent.buffer)
    if (own && !this.#free.includes(own)) this.#free.push(own)
  }

  destroy(): void {
    for (const buffer of this.#buffers) this.#pool.release(buffer)
    this.#buffers.length = this.#free.length = 0
  }
}
