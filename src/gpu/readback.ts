/** Owns the mappable staging buffers through which results come back from the GPU. */
import { sizeClass } from './buffers.ts'

const MAP_READ_COPY_DST = 0x01 | 0x08 // GPUBufferUsage is no global in Node.
const MODE_READ = 0x01 // GPUMapMode.READ

/** Staging buffers are recycled by size class; at most {@link KEPT} of a class are kept. */
const KEPT = 4

/** Lends staging buffers to recorders and turns filled ones into ArrayBuffers. */
export class ReadbackRing {
  readonly #device: GPUDevice
  readonly #free = new Map<number, GPUBuffer[]>()
  readonly #lent = new Set<GPUBuffer>()

  constructor(device: GPUDevice) {
    this.#device = device
  }

  /** A buffer with MAP_READ | COPY_DST of at least `bytes`. */
  take(bytes: number): GPUBuffer {
    const size = sizeClass(bytes)
    const buffer =
      this.#free.get(size)?.pop() ?? this.#device.createBuffer({ label: 'readback', size, usage: MAP_READ_COPY_DST })
    this.#lent.add(buffer)
    return buffer
  }

  /** Call after the submit that fills `buffer`. Copies out the first `bytes` and takes the buffer back. */
  async finish(buffer: GPUBuffer, bytes: number): Promise<ArrayBuffer> {
    const mapped = Math.ceil(bytes / 4) * 4
    try {
      await buffer.mapAsync(MODE_READ, 0, mapped)
      const copy = buffer.getMappedRange(0, mapped).slice(0, bytes)
      buffer.unmap()
      this.#give(buffer)
      return copy
    } catch (caught) {
      this.#lent.delete(buffer)
      buffer.destroy()
      throw caught
    }
  }

  destroy(): void {
    for (const list of this.#free.values()) for (const buffer of list) buffer.destroy()
    for (const buffer of this.#lent) buffer.destroy()
    this.#free.clear()
    this.#lent.clear()
  }

  #give(buffer: GPUBuffer): void {
    if (!this.#lent.delete(buffer)) return
    const list = this.#free.get(buffer.size) ?? []
    if (list.length >= KEPT) buffer.destroy()
    else list.push(buffer)
    this.#free.set(buffer.size, list)
  }
}
