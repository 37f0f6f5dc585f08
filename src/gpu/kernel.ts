/** Owns what a kernel is and what a recording of GPU work takes: dispatches with their uniforms and bindings, copies, scratch. */
import type { BufferView, PooledBuffer } from './buffers.ts'
import type { GpuContext } from './device.ts'
import type { CompiledPipeline } from './pipelines.ts'
import { template } from './template.ts'

/**
 * A compiled WGSL entry point. By convention binding 0 is `var<uniform>` (a struct of u32 and f32 words) and the storage
 * buffers follow from 1.
 */
export interface Kernel extends CompiledPipeline {
  readonly label: string
}

/** Compiles `source` with its `{{NAME}}` marks filled in and its `//:for` loops unrolled. Throws `gpu.shader`. */
export async function createKernel(
  gpu: GpuContext,
  label: string,
  source: string,
  constants: Readonly<Record<string, string | number>> = {},
  entry = 'main',
): Promise<Kernel> {
  return { label, ...(await gpu.pipelines.get(template(source, constants), label, entry)) }
}

/** One word of a uniform struct: a plain number is a u32, {@link f32} marks a float, {@link variable} what changes. */
export type UniformWord = number | { readonly f32: number } | Variable

export interface Variable {
  readonly variable: string
  readonly type: 'f32' | 'u32'
}

export function f32(value: number): UniformWord {
  return { f32: value }
}

/** A word whose value is told each time the work is run: a learning rate, a count. */
export function variable(name: string, type: Variable['type'] = 'f32'): Variable {
  return { variable: name, type }
}

export type Variables = Readonly<Record<string, number>>

/** Workgroup counts; missing ones are 1. */
export type Grid = readonly [x: number, y?: number, z?: number]

/**
 * Lays `groups` workgroups out over x and y where one dimension cannot hold them; the kernel computes its index as
 * `id.x + id.y * count.x` from workgroup_id and num_workgroups, and returns if that is past the end.
 */
export function spread(groups: number): Grid {
  const most = 65_535
  if (groups <= most) return [groups]
  const y = Math.ceil(groups / most)
  return [Math.ceil(groups / y), y]
}

/** Where kernels put their work: {@link Recorder} runs it soon and once, a `PlanBuilder` keeps it to be run every step. */
export interface Recording {
  /**
   * Runs `kernel` over `grid` workgroups. `uniforms` fills binding 0 word by word, `buffers` bindings 1, 2, …
   * One dispatch must not bind one buffer both to be read and to be written.
   */
  dispatch(kernel: Kernel, uniforms: readonly UniformWord[], buffers: readonly BufferView[], grid: Grid): void
  /** Copies the first `bytes` (a multiple of 4; all by default) of `from` to the start of `to`. */
  copy(from: BufferView, to: BufferView, bytes?: number): void
  /** Fills `view` with zero bytes. */
  clear(view: BufferView): void
  /** Lends a buffer for work that is recorded between here and `release`. Its contents are undefined. */
  scratch(bytes: number, label?: string): PooledBuffer
  release(...buffers: readonly (PooledBuffer | undefined)[]): void
}

export const SLOT = 256 // The largest minUniformBufferOffsetAlignment that WebGPU allows.
export const UNIFORM_COPY_DST = 0x40 | 0x08

/** Writes `words` from word `at` on; a variable takes its value from `values`. */
export function fillUniforms(
  { u32, f32: floats }: { readonly u32: Uint32Array; readonly f32: Float32Array },
  at: number,
  words: readonly UniformWord[],
  values: Variables,
): void {
  words.forEach((word, i) => {
    if (typeof word === 'number') u32[at + i] = word
    else if ('f32' in word) floats[at + i] = word.f32
    else {
      const value = values[word.variable]
      if (value === undefined) throw new RangeError(`The recording needs a value for ${word.variable}.`)
      if (word.type === 'u32') u32[at + i] = value
      else floats[at + i] = value
    }
  })
}

/** The bind group's entries of a dispatch: one slot of `uniforms`, then the views. */
export function entriesOf(uniforms: GPUBuffer, buffers: readonly BufferView[]): GPUBindGroupEntry[] {
  const entries: GPUBindGroupEntry[] = [{ binding: 0, resource: { buffer: uniforms, size: SLOT } }]
  buffers.forEach((view, i) => {
    // Whole vec4s: every view has room up to its next 256-byte border.
    const size = Math.ceil(view.size / 16) * 16
    entries.push({ binding: i + 1, resource: { buffer: view.buffer, offset: view.offset, size } })
  })
  return entries
}

/** Throws a RangeError if a dispatch does not fit its kernel. */
export function checkDispatch(kernel: Kernel, uniforms: readonly UniformWord[], buffers: readonly BufferView[]): void {
  if (buffers.length + 1 !== kernel.bindings.length) {
    throw new RangeError(`${kernel.label} takes ${kernel.bindings.length - 1} buffers, not ${buffers.length}.`)
  }
  if (uniforms.length * 4 > SLOT) throw new RangeError(`${kernel.label} has too many uniforms.`)
}
