/** Owns the device that kernel tests run on: Dawn in Node, the browser's own elsewhere; and the noise they feed it. */
import { acquireGpu } from '../../src/gpu/device.ts'
import type { GpuContext } from '../../src/gpu/device.ts'

let shared: Promise<GpuContext> | undefined
// Dawn ends the process silently when this object is collected.
let dawn: GPU | undefined

/** One device for all tests of a file. */
export function testGpu(): Promise<GpuContext> {
  shared ??= freshGpu()
  return shared
}

/** A device of its own, for tests that break it. */
export async function freshGpu(): Promise<GpuContext> {
  if (typeof process === 'object' && process.versions?.node) {
    // A variable keeps the bundler from following the native package into the browser.
    const name = 'webgpu'
    const { create } = (await import(/* @vite-ignore */ name)) as { create(flags: string[]): GPU }
    dawn ??= create([])
  }
  return acquireGpu(dawn ? { gpu: dawn } : {})
}

/** Reproducible values in [-scale, scale) (mulberry32). */
export function noise(length: number, seed: number, scale = 1): Float32Array<ArrayBuffer> {
  let state = seed >>> 0
  return Float32Array.from({ length }, () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return (((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1) * scale
  })
}

/** Largest |a-b| over the largest |b| (or 1e-30): one figure that ignores cancellation in single elements. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) throw new RangeError(`${actual.length} values, not ${expected.length}`)
  let worst = 0
  let largest = 1e-30
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!)
    if (Number.isNaN(difference)) return Infinity
    worst = Math.max(worst, difference)
    largest = Math.max(largest, Math.abs(expected[i]!))
  }
  return worst / largest
}

const MAKERS = [
  'createBuffer',
  'createBindGroup',
  'createBindGroupLayout',
  'createPipelineLayout',
  'createShaderModule',
  'createComputePipeline',
  'createComputePipelineAsync',
  'createTexture',
  'createSampler',
  'createQuerySet',
] as const

/**
 * Counts the objects a device makes from now until `stop`, which returns them by the name of the call that made them.
 * Encoders do not count: WebGPU has no command buffer that can be submitted twice.
 */
export function countObjects(device: GPUDevice): { stop(): Record<string, number> } {
  const counts: Record<string, number> = {}
  for (const maker of MAKERS) {
    const own = device[maker].bind(device) as (...args: unknown[]) => unknown
    Object.defineProperty(device, maker, {
      configurable: true,
      value: (...args: unknown[]) => {
        counts[maker] = (counts[maker] ?? 0) + 1
        return own(...args)
      },
    })
  }
  return {
    stop() {
      for (const maker of MAKERS) Reflect.deleteProperty(device, maker)
      return counts
    },
  }
}
