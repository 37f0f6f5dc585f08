/** Owns the trial of how much memory a device really gives: taken in steps, written to, and freed at once. */
import type { GpuContext } from './device.ts'

const MIB = 2 ** 20
const LARGEST_STEP = 256 * MIB
/** A step of this share of the whole tells well enough where the end is. */
const STEPS = 16
/** A software adapter's memory is the machine's: filling much of it would show nothing and hurt whatever else runs. */
const MOST_IN_SOFTWARE = 64 * MIB

const USAGE = 0x80 | 0x08 // STORAGE | COPY_DST: GPUBufferUsage is no global in Node.

export interface MemoryTrial {
  /** Bytes that were asked for in all. */
  readonly asked: number
  /** Bytes that were there, all at one time. */
  readonly given: number
}

/**
 * Takes up to `bytes` of memory, on a software adapter a little of it only. No limit of an adapter says how much there is,
 * and an allocation alone proves little: drivers give pages out at the first write.
 * @returns null where the device was lost over it
 */
export async function tryMemory(
  gpu: Pick<GpuContext, 'device' | 'adapter' | 'lost'>,
  bytes: number,
): Promise<MemoryTrial | null> {
  const { device, adapter } = gpu
  const asked = Math.max(0, Math.floor(adapter.software ? Math.min(bytes, MOST_IN_SOFTWARE) : bytes))
  const step = Math.min(LARGEST_STEP, device.limits.maxBufferSize, Math.max(MIB, Math.ceil(asked / STEPS)))
  const lost = gpu.lost.then(() => 'lost' as const)
  const taken: GPUBuffer[] = []
  let given = 0
  try {
    while (given < asked) {
      const size = Math.ceil(Math.min(step, asked - given) / 4) * 4
      const outcome = await Promise.race([take(device, size, taken), lost])
      if (outcome === 'lost') return null
      if (outcome === 'full') break
      given = Math.min(asked, given + size)
    }
  } finally {
    for (const buffer of taken) buffer.destroy()
  }
  // Freed memory is the device's again only once the work that used it is done.
  const idle = device.queue.onSubmittedWorkDone().then(() => 'idle' as const)
  return (await Promise.race([idle, lost])) === 'lost' ? null : { asked, given }
}

async function take(device: GPUDevice, size: number, taken: GPUBuffer[]): Promise<'given' | 'full'> {
  // Work with a buffer that came out invalid is an error of its own, which nobody else is to hear of.
  device.pushErrorScope('validation')
  device.pushErrorScope('out-of-memory')
  const buffer = device.createBuffer({ label: 'memory trial', size, usage: USAGE })
  taken.push(buffer)
  const encoder = device.createCommandEncoder()
  encoder.clearBuffer(buffer)
  device.queue.submit([encoder.finish()])
  const errors = await Promise.all([device.popErrorScope(), device.popErrorScope(), device.queue.onSubmittedWorkDone()])
  return errors[0] || errors[1] ? 'full' : 'given'
}
