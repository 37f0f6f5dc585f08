/** Owns static plans: work recorded once, with its buffers and bind groups, and run every step without making any. */
import type { BufferView, PooledBuffer } from './buffers.ts'
import type { GpuContext } from './device.ts'
import { SLOT, UNIFORM_COPY_DST, checkDispatch, entriesOf, fillUniforms } from './kernel.ts'
import type { Grid, Kernel, Recording, UniformWord, Variables } from './kernel.ts'
import type { Workspace } from './workspace.ts'

type Command =
  | {
      readonly kind: 'dispatch'
      readonly pipeline: GPUComputePipeline
      readonly group: GPUBindGroup
      /** Bytes into the plan's uniforms, as setBindGroup takes it. */
      readonly offset: readonly [number]
      readonly grid: readonly [number, number, number]
    }
  | { readonly kind: 'copy'; readonly from: BufferView; readonly to: BufferView; readonly bytes: number }
  | { readonly kind: 'clear'; readonly view: BufferView }
  | { readonly kind: 'submit' }

interface PendingDispatch {
  readonly kernel: Kernel
  readonly uniforms: readonly UniformWord[]
  readonly buffers: readonly BufferView[]
  readonly grid: readonly [number, number, number]
}

/** Records what a {@link Plan} will run. */
export class PlanBuilder implements Recording {
  readonly #gpu: GpuContext
  readonly #label: string
  readonly #workspace: Workspace
  readonly #mostWork: number
  #spent = 0
  readonly #work: (PendingDispatch | Exclude<Command, { kind: 'dispatch' }>)[] = []

  /** `mostWork` multiply-adds go into one submit, as `spent` counts them. */
  constructor(gpu: GpuContext, workspace: Workspace, label: string, mostWork = Infinity) {
    this.#gpu = gpu
    this.#workspace = workspace
    this.#label = label
    this.#mostWork = mostWork
    workspace.restart()
  }

  /**
   * Counts the multiply-adds of what was just recorded. A submit should stay well under the seconds after which a
   * watchdog resets the device, and under the tenth of one in which a page gets no frame.
   */
  spent(multiplyAdds: number): void {
    this.#spent += multiplyAdds
    if (this.#spent < this.#mostWork) return
    this.#work.push({ kind: 'submit' })
    this.#spent = 0
  }

  dispatch(kernel: Kernel, uniforms: readonly UniformWord[], buffers: readonly BufferView[], grid: Grid): void {
    checkDispatch(kernel, uniforms, buffers)
    const [x, y = 1, z = 1] = grid
    if (x * y * z > 0) this.#work.push({ kernel, uniforms, buffers, grid: [x, y, z] })
  }

  copy(from: BufferView, to: BufferView, bytes = from.size): void {
    this.#work.push({ kind: 'copy', from, to, bytes })
  }

  clear(view: BufferView): void {
    this.#work.push({ kind: 'clear', view })
  }

  scratch(bytes: number, label?: string): PooledBuffer {
    return this.#workspace.lend(bytes, label)
  }

  release(...buffers: readonly (PooledBuffer | undefined)[]): void {
    for (const buffer of buffers) if (buffer) this.#workspace.giveBack(buffer)
  }

  /** Lends a place to be written before each run: no work recorded so far uses it. */
  input(bytes: number, label?: string): PooledBuffer {
    return this.#workspace.lend(bytes, label, true)
  }

  /** Makes the bind groups and the uniforms. Equal bindings share a group. */
  build(): Plan {
    const { device } = this.#gpu
    const dispatches = this.#work.filter((one) => !('kind' in one))
    const words = new ArrayBuffer(SLOT * Math.max(1, dispatches.length))
    const uniforms = device.createBuffer({ label: this.#label, size: words.byteLength, usage: UNIFORM_COPY_DST })
    const groups = new Map<GPUBindGroupLayout, { buffers: readonly BufferView[]; group: GPUBindGroup }[]>()
    const slots: UniformSlot[] = []
    let slot = 0
    const commands = this.#work.map((one): Command => {
      if ('kind' in one) return one
      const { kernel, buffers, grid } = one
      const known = groups.get(kernel.layout) ?? []
      groups.set(kernel.layout, known)
      let found = known.find((other) => sameViews(other.buffers, buffers))
      if (!found) {
        const entries = entriesOf(uniforms, buffers)
        found = { buffers, group: device.createBindGroup({ label: kernel.label, layout: kernel.layout, entries }) }
        known.push(found)
      }
      const offset = [slot++ * SLOT] as const
      slots.push({ at: offset[0], words: one.uniforms })
      return { kind: 'dispatch', pipeline: kernel.pipeline, group: found.group, offset, grid }
    })
    return new Plan(this.#gpu, commands, uniforms, words, slots)
  }
}

interface UniformSlot {
  /** Bytes into the uniforms. */
  readonly at: number
  readonly words: readonly UniformWord[]
}

function sameViews(a: readonly BufferView[], b: readonly BufferView[]): boolean {
  return a.every((view, i) => {
    const other = b[i]!
    return view.buffer === other.buffer && view.offset === other.offset && view.size === other.size
  })
}

/**
 * Work that is encoded anew at every run, since WebGPU's command buffers serve once, out of parts that all exist already.
 * Runs of plans over the same buffers are ordered by the queue.
 */
export class Plan {
  readonly dispatches: number
  /** Command buffers a run submits. */
  readonly submits: number
  readonly #gpu: GpuContext
  readonly #commands: readonly Command[]
  readonly #uniforms: GPUBuffer
  readonly #words: ArrayBuffer
  readonly #changing: readonly UniformSlot[]
  readonly #views: { readonly u32: Uint32Array; readonly f32: Float32Array }

  constructor(
    gpu: GpuContext,
    commands: readonly Command[],
    uniforms: GPUBuffer,
    words: ArrayBuffer,
    slots: readonly UniformSlot[],
  ) {
    this.#gpu = gpu
    this.#commands = commands
    this.#uniforms = uniforms
    this.#words = words
    this.#views = { u32: new Uint32Array(words), f32: new Float32Array(words) }
    const varies = ({ words: list }: UniformSlot) => list.some((word) => typeof word === 'object' && 'variable' in word)
    this.#changing = slots.filter(varies)
    for (const one of slots) if (!varies(one)) fillUniforms(this.#views, one.at / 4, one.words, {})
    gpu.device.queue.writeBuffer(uniforms, 0, words)
    this.dispatches = commands.filter(({ kind }) => kind === 'dispatch').length
    this.submits = commands.filter(({ kind }) => kind === 'submit').length + 1
  }

  /**
   * Submits the work with these values of its variables; resolves each of `reads` to its bytes once they are there.
   * A uniform is written in the order of the queue, so a run still under way keeps its own values.
   */
  run(variables: Variables = {}, reads: readonly BufferView[] = []): Promise<ArrayBuffer>[] {
    const { device, readback } = this.#gpu
    const { queue } = device
    for (const { at, words } of this.#changing) {
      fillUniforms(this.#views, at / 4, words, variables)
      queue.writeBuffer(this.#uniforms, at, this.#words, at, words.length * 4)
    }
    let encoder = device.createCommandEncoder()
    let pass: GPUComputePassEncoder | undefined
    const endPass = () => {
      pass?.end()
      pass = undefined
    }
    for (const command of this.#commands) {
      if (command.kind === 'dispatch') {
        pass ??= encoder.beginComputePass()
        pass.setPipeline(command.pipeline)
        pass.setBindGroup(0, command.group, command.offset)
        pass.dispatchWorkgroups(...command.grid)
        continue
      }
      endPass()
      if (command.kind === 'submit') {
        queue.submit([encoder.finish()])
        encoder = device.createCommandEncoder()
      } else if (command.kind === 'copy') {
        const { from, to, bytes } = command
        encoder.copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset, bytes)
      } else {
        const { buffer, offset, size } = command.view
        encoder.clearBuffer(buffer, offset, Math.ceil(size / 4) * 4)
      }
    }
    endPass()
    const staged = reads.map((view) => {
      const staging = readback.take(view.size)
      const size = Math.ceil(view.size / 4) * 4
      encoder.copyBufferToBuffer(view.buffer, view.offset, staging, 0, size)
      return { staging, bytes: view.size }
    })
    queue.submit([encoder.finish()])
    return staged.map(({ staging, bytes }) => readback.finish(staging, bytes))
  }

  destroy(): void {
    this.#uniforms.destroy()
  }
}
