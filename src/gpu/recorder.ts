/** Owns the recording of GPU work that runs soon and once: dispatches, copies, readbacks, one submit. */
import type { BufferView, PooledBuffer } from './buffers.ts'
import type { GpuContext } from './device.ts'
import { SLOT, UNIFORM_COPY_DST, checkDispatch, entriesOf, fillUniforms } from './kernel.ts'
import type { Grid, Kernel, Recording, UniformWord, Variables } from './kernel.ts'

const SLOTS = 2048

const uniformBuffers = new WeakMap<GPUDevice, GPUBuffer>()

/**
 * Records commands into one command buffer. Dispatches share a compute pass, WebGPU orders them by what they touch.
 * Uniforms are gathered on the CPU and written once before the submit, which orders them against earlier submits; after
 * {@link SLOTS} dispatches the recorder submits by itself and goes on.
 */
export class Recorder implements Recording {
  /** Values of the variables in what is recorded from here on. */
  variables: Variables = {}
  readonly #gpu: GpuContext
  readonly #words = new ArrayBuffer(SLOT * SLOTS)
  readonly #views = { u32: new Uint32Array(this.#words), f32: new Float32Array(this.#words) }
  readonly #uniforms: GPUBuffer
  #slots = 0
  #encoder: GPUCommandEncoder | undefined
  #pass: GPUComputePassEncoder | undefined
  #reads: (() => void)[] = []
  #dispatches = 0
  #submits = 0

  constructor(gpu: GpuContext) {
    this.#gpu = gpu
    let uniforms = uniformBuffers.get(gpu.device)
    if (!uniforms) {
      uniforms = gpu.device.createBuffer({ label: 'uniforms', size: SLOT * SLOTS, usage: UNIFORM_COPY_DST })
      uniformBuffers.set(gpu.device, uniforms)
    }
    this.#uniforms = uniforms
  }

  /** Dispatches recorded since the recorder was made. */
  get dispatches(): number {
    return this.#dispatches
  }

  get submits(): number {
    return this.#submits
  }

  dispatch(kernel: Kernel, uniforms: readonly UniformWord[], buffers: readonly BufferView[], grid: Grid): void {
    checkDispatch(kernel, uniforms, buffers)
    const [x, y = 1, z = 1] = grid
    if (x * y * z === 0) return
    if (this.#slots === SLOTS) this.submit()
    fillUniforms(this.#views, (this.#slots * SLOT) / 4, uniforms, this.variables)
    const entries = entriesOf(this.#uniforms, buffers)
    this.#pass ??= this.#encoding().beginComputePass()
    this.#pass.setPipeline(kernel.pipeline)
    const group = this.#gpu.device.createBindGroup({ layout: kernel.layout, entries })
    this.#pass.setBindGroup(0, group, [this.#slots * SLOT])
    this.#pass.dispatchWorkgroups(x, y, z)
    this.#slots++
    this.#dispatches++
  }

  copy(from: BufferView, to: BufferView, bytes = from.size): void {
    this.#encodingOutsidePass().copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset, bytes)
  }

  clear(view: BufferView): void {
    this.#encodingOutsidePass().clearBuffer(view.buffer, view.offset, Math.ceil(view.size / 4) * 4)
  }

  scratch(bytes: number, label?: string): PooledBuffer {
    return this.#gpu.pool.allocate(bytes, label)
  }

  /** The pool may lend the buffers again at once: later users run after what is recorded here. */
  release(...buffers: readonly (PooledBuffer | undefined)[]): void {
    for (const buffer of buffers) if (buffer) this.#gpu.pool.release(buffer)
  }

  /** The bytes of `view` as they are at this point of the recording. Resolves some time after `submit`. */
  read(view: BufferView): Promise<ArrayBuffer> {
    const { readback } = this.#gpu
    const staging = readback.take(view.size)
    const bytes = Math.ceil(view.size / 4) * 4
    this.#encodingOutsidePass().copyBufferToBuffer(view.buffer, view.offset, staging, 0, bytes)
    return new Promise((resolve, reject) => {
      this.#reads.push(() => readback.finish(staging, view.size).then(resolve, reject))
    })
  }

  async readF32(view: BufferView): Promise<Float32Array<ArrayBuffer>> {
    return new Float32Array(await this.read(view))
  }

  async readU32(view: BufferView): Promise<Uint32Array<ArrayBuffer>> {
    return new Uint32Array(await this.read(view))
  }

  /** Hands everything recorded to the queue; the recorder can be used again. */
  submit(): void {
    if (!this.#encoder) return
    this.#endPass()
    const { queue } = this.#gpu.device
    if (this.#slots > 0) queue.writeBuffer(this.#uniforms, 0, this.#words, 0, this.#slots * SLOT)
    queue.submit([this.#encoder.finish()])
    this.#encoder = undefined
    this.#slots = 0
    this.#submits++
    const reads = this.#reads
    this.#reads = []
    for (const read of reads) read()
  }

  #encoding(): GPUCommandEncoder {
    this.#encoder ??= this.#gpu.device.createCommandEncoder()
    return this.#encoder
  }

  #encodingOutsidePass(): GPUCommandEncoder {
    this.#endPass()
    return this.#encoding()
  }

  #endPass(): void {
    this.#pass?.end()
    this.#pass = undefined
  }
}
