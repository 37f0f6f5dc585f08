/** Owns the acquisition of a WebGPU device: its limits, features, description, and the news of its loss. */
import type { AdapterDescription } from '../protocol/control.ts'
import { SkeinError, fail } from '../protocol/errors.ts'
import { BufferPool } from './buffers.ts'
import { PipelineCache } from './pipelines.ts'
import { ReadbackRing } from './readback.ts'

/** Everything the arithmetic needs of one device. Owned by whoever acquired it; `destroy` frees all of it. */
export interface GpuContext {
  readonly device: GPUDevice
  readonly adapter: AdapterDescription
  readonly limits: GPUSupportedLimits
  /** Features the device was granted, among those Skein can use. */
  readonly features: ReadonlySet<GPUFeatureName>
  /** Invocations in a subgroup where the device has subgroups and all are of one size, else null. */
  readonly subgroupSize: number | null
  readonly pool: BufferPool
  readonly pipelines: PipelineCache
  readonly readback: ReadbackRing
  /** Resolves, never rejects, with `gpu.lost` once the device is gone, also after `destroy`. */
  readonly lost: Promise<SkeinError>
  /** Throws `gpu.lost`, `gpu.out_of_memory` or `gpu.internal` if the device is gone or reported an error since. */
  check(): void
  /** Forgets every error but the device's loss: whoever caused them has freed what they spoilt, and begins anew. */
  recover(): void
  destroy(): void
}

export interface AcquireOptions {
  /** `navigator.gpu` in a browser (the default), `create([])` of the `webgpu` package in Node. */
  gpu?: GPU
  powerPreference?: GPUPowerPreference
}

/** What every kernel may rely on. WebGPU's own defaults, so a conforming device always has them. */
export const REQUIRED_LIMITS = {
  maxBufferSize: 256 * 1024 * 1024,
  maxStorageBufferBindingSize: 128 * 1024 * 1024,
  maxStorageBuffersPerShaderStage: 8,
  maxComputeWorkgroupStorageSize: 16 * 1024,
  maxComputeInvocationsPerWorkgroup: 256,
  maxComputeWorkgroupSizeX: 256,
  maxComputeWorkgroupsPerDimension: 65_535,
} as const

const SUBGROUP_MATRIX: string = 'chromium-experimental-subgroup-matrix' // Not in the type definitions yet.
const WANTED_FEATURES: readonly GPUFeatureName[] = [
  'shader-f16',
  'subgroups',
  'timestamp-query',
  SUBGROUP_MATRIX as GPUFeatureName,
]

/**
 * Acquires a device with the largest limits the adapter grants.
 *
 * Throws `gpu.unavailable` (no WebGPU here), `gpu.no_adapter` (WebGPU, yet nothing to run on), `gpu.limits` (a device
 * below {@link REQUIRED_LIMITS}) or `gpu.no_device` (the adapter refused).
 */
export async function acquireGpu(options: AcquireOptions = {}): Promise<GpuContext> {
  const gpu = options.gpu ?? (globalThis.navigator as Navigator | undefined)?.gpu
  if (!gpu) {
    fail(
      'gpu.unavailable',
      'This browser does not offer WebGPU.',
      'Use a current Chrome, Edge, Safari or Firefox over https or localhost, and turn on hardware acceleration.',
    )
  }
  const found = await gpu.requestAdapter({ powerPreference: options.powerPreference ?? 'high-performance' })
  if (!found) {
    fail(
      'gpu.no_adapter',
      'WebGPU is present, but it found no graphics adapter that it may use.',
      'Update the graphics driver and turn on hardware acceleration; chrome://gpu says what is blocked.',
    )
  }
  const requiredLimits: Record<string, number> = {}
  for (const [name, least] of Object.entries(REQUIRED_LIMITS)) {
    const granted = found.limits[name as keyof typeof REQUIRED_LIMITS]
    if (granted < least) {
      fail(
        'gpu.limits',
        `The graphics adapter grants ${name} = ${granted}; Skein needs ${least}.`,
        'Use another device or browser; a compatibility-mode adapter is too small to train on.',
      )
    }
    requiredLimits[name] = granted
  }
  const requiredFeatures = WANTED_FEATURES.filter((feature) => found.features.has(feature))
  const device = await found
    .requestDevice({ requiredLimits, requiredFeatures })
    .catch((caught: unknown) =>
      fail(
        'gpu.no_device',
        `The graphics adapter refused a device: ${caught instanceof Error ? caught.message : String(caught)}`,
        'Close other pages that use the GPU and reload this one.',
      ),
    )
  return contextOf(device, describe(found), subgroupSizeOf(found))
}

function subgroupSizeOf({ info, features }: GPUAdapter): number | null {
  const { subgroupMinSize, subgroupMaxSize } = info
  return features.has('subgroups') && subgroupMinSize === subgroupMaxSize ? subgroupMinSize : null
}

const SOFTWARE = /swiftshader|llvmpipe|lavapipe|softpipe|\bwarp\b|basic render|software/i

function describe(adapter: GPUAdapter): AdapterDescription {
  const { info } = adapter
  const text = `${info.vendor} ${info.architecture} ${info.device} ${info.description}`
  return {
    vendor: info.vendor.slice(0, 80),
    architecture: info.architecture.slice(0, 80),
    description: (info.description || info.device).slice(0, 200),
    software: info.isFallbackAdapter || SOFTWARE.test(text),
    maxBufferSize: adapter.limits.maxBufferSize,
    maxStorageBufferBindingSize: adapter.limits.maxStorageBufferBindingSize,
  }
}

function contextOf(device: GPUDevice, adapter: AdapterDescription, subgroupSize: number | null): GpuContext {
  let failure: SkeinError | undefined
  let gone: SkeinError | undefined
  const lost = device.lost.then((info) => {
    gone = new SkeinError({
      code: 'gpu.lost',
      message: `The graphics device was lost: ${info.message || info.reason}.`,
      remedy: 'Skein starts again by itself; if it happens often, close other pages that use the GPU.',
    })
    return gone
  })
  device.addEventListener('uncapturederror', (event) => {
    failure ??= errorFrom((event as GPUUncapturedErrorEvent).error)
  })
  const pool = new BufferPool(device)
  const readback = new ReadbackRing(device)
  return {
    device,
    adapter,
    limits: device.limits,
    features: new Set(WANTED_FEATURES.filter((feature) => device.features.has(feature))),
    subgroupSize,
    pool,
    pipelines: new PipelineCache(device),
    readback,
    lost,
    check() {
      const error = gone ?? failure
      if (error) throw error
      pool.check()
    },
    recover() {
      failure = undefined
      pool.forgive()
    },
    destroy() {
      readback.destroy()
      pool.destroy()
      device.destroy()
    },
  }
}

function errorFrom(error: GPUError): SkeinError {
  const outOfMemory = error.constructor.name === 'GPUOutOfMemoryError'
  return new SkeinError({
    code: outOfMemory ? 'gpu.out_of_memory' : 'gpu.internal',
    message: `The graphics device reported an error: ${error.message}`.slice(0, 2000),
    remedy: outOfMemory
      ? 'Use a smaller microbatch or more stages, or close other pages that use the GPU.'
      : 'This is a fault in Skein or in the driver; report it with this text.',
  })
}
