/** Owns GPU memory: buffers recycled by size class, and the typed windows on them that kernels take. */
import { SkeinError } from '../protocol/errors.ts'

/** A window on a storage buffer, in bytes; `offset` is a multiple of 256. Elements are f32 or u32 as the kernel says. */
export interface BufferView {
  readonly buffer: GPUBuffer
  readonly offset: number
  readonly size: number
}

/** A view that covers `length` 32-bit elements from `start` elements into `view`. */
export function slice(view: BufferView, start: number, length: number): BufferView {
  return { buffer: view.buffer, offset: view.offset + start * 4, size: length * 4 }
}

/** A buffer on loan from the pool. `size` is what was asked for; `bytes` what the class takes. */
export interface PooledBuffer extends BufferView {
  readonly bytes: number
}

/** Rounds up to a size class: quarters of powers of two, so at most a fifth is waste. At least 256 bytes. */
export function sizeClass(bytes: number): number {
  if (bytes <= 256) return 256
  const power = 2 ** Math.floor(Math.log2(bytes))
  const quarter = Math.max(power / 4, 256)
  return Math.ceil(bytes / quarter) * quarter
}

const STORAGE_USAGE = 0x80 | 0x04 | 0x08 // STORAGE | COPY_SRC | COPY_DST: GPUBufferUsage is no global in Node.

/**
 * Lends storage buffers. A released buffer may be lent again at once: the queue runs commands in the order of submits,
 * so a later use cannot overtake an earlier one. The contents of a lent buffer are undefined.
 */
export class BufferPool {
  readonly #device: GPUDevice
  readonly #free = new Map<number, GPUBuffer[]>()
  readonly #lent = new Set<PooledBuffer>()
  #failure: SkeinError | undefined
  #bytesInUse = 0
  #bytesHeld = 0
  #pending: Promise<void>[] = []

  constructor(device: GPUDevice) {
    this.#device = device
  }

  /** Bytes on loan. */
  get bytesInUse(): number {
    return this.#bytesInUse
  }

  /** Bytes on loan and kept for recycling. */
  get bytesHeld(): number {
    return this.#bytesHeld
  }

  /** Lends a buffer of at least `size` bytes. Running out of memory shows up in `check` and `settled`. */
  allocate(size: number, label = 'pooled'): PooledBuffer {
    const bytes = sizeClass(size)
    const buffer = this.#free.get(bytes)?.pop() ?? this.#create(bytes, label)
    const lent = { buffer, offset: 0, size, bytes }
    this.#lent.add(lent)
    this.#bytesInUse += bytes
    return lent
  }

  /** Lends a buffer that holds `values`. */
  upload(values: Float32Array | Uint32Array | Uint8Array, label?: string): PooledBuffer {
    const lent = this.allocate(Math.max(values.byteLength, 4), label)
    this.write(lent, values)
    return lent
  }

  /** Writes `values` to the start of `view`; a byte length that is no multiple of 4 is padded with zeros. */
  write(view: BufferView, values: Float32Array | Uint32Array | Uint8Array): void {
    const { byteLength } = values
    if (byteLength === 0) return
    if (byteLength % 4 === 0) {
      this.#device.queue.writeBuffer(view.buffer, view.offset, values.buffer, values.byteOffset, byteLength)
      return
    }
    const padded = new Uint8Array(Math.ceil(byteLength / 4) * 4)
    padded.set(new Uint8Array(values.buffer, values.byteOffset, byteLength))
    this.#device.queue.writeBuffer(view.buffer, view.offset, padded)
  }

  /**
   * Takes a buffer back. Recorded work that still uses it is safe, `write` and `upload` are not: they run ahead of what
   * was recorded and not yet submitted, so do them before recording.
   */
  release(lent: PooledBuffer): void {
    if (!this.#lent.delete(lent)) return
    this.#bytesInUse -= lent.bytes
    const list = this.#free.get(lent.bytes)
    if (list) list.push(lent.buffer)
    else this.#free.set(lent.bytes, [lent.buffer])
  }

  /** Destroys the buffers that are not on loan. */
  trim(): void {
    for (const [bytes, list] of this.#free) {
      for (const buffer of list) buffer.destroy()
      this.#bytesHeld -= bytes * list.length
    }
    this.#free.clear()
  }

  /** Throws `gpu.out_of_memory` if an allocation is known to have failed. */
  check(): void {
    if (this.#failure) throw this.#failure
  }

  /** Resolves when the outcome of every allocation so far is known; throws `gpu.out_of_memory`. */
  async settled(): Promise<void> {
    const pending = this.#pending
    this.#pending = []
    await Promise.all(pending)
    this.check()
  }

  /** Forgets that memory ran out, once everything that was lent in vain has been released and trimmed. */
  forgive(): void {
    this.#failure = undefined
  }

  /** Destroys every buffer, lent ones too. */
  destroy(): void {
    this.trim()
    for (const lent of this.#lent) lent.buffer.destroy()
    this.#lent.clear()
    this.#bytesInUse = this.#bytesHeld = 0
  }

  #create(bytes: number, label: string): GPUBuffer {
    this.#device.pushErrorScope('out-of-memory')
    const buffer = this.#device.createBuffer({ label, size: bytes, usage: STORAGE_USAGE })
    const outcome = this.#device.popErrorScope().then(
      (error) => {
        if (!error) return
        this.#failure ??= new SkeinError({
          code: 'gpu.out_of_memory',
          message: `The graphics device has no room for ${(bytes / 2 ** 20).toFixed(1)} MiB more.`,
          remedy: 'Use a smaller microbatch or more stages, or close other pages that use the GPU.',
        })
      },
      () => undefined, // The device is gone; its `lost` promise says so.
    )
    this.#pending.push(outcome)
    this.#bytesHeld += bytes
    return buffer
  }
}
