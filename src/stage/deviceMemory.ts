/** Owns what memory a node may speak of: a device acquired, and as much of the volunteer's offer as it proves to have. */
import type { GpuContext } from '../gpu/device.ts'
import { tryMemory, type MemoryTrial } from '../gpu/memoryProbe.ts'

/** Below this a device that dies of a trial is broken otherwise. */
const LEAST_TRIAL = 64 * 2 ** 20

export interface ProvenMemory {
  /** What the server may count on. */
  readonly memoryBytes: number
  /** What was really taken, written to and freed again; less than the above on a software adapter, which is spared. */
  readonly triedBytes: number
}

export interface ProvenDevice {
  readonly gpu: GpuContext
  readonly memory: ProvenMemory
}

/**
 * Tries the offer on a fresh device; where the device is lost over it, half of it on another one, and so on.
 * @param offered bytes that the volunteer offers
 * @throws SkeinError whatever acquiring throws, and `gpu.lost` where even a small trial loses the device
 */
export async function proveDevice(
  acquire: () => Promise<GpuContext>,
  offered: number,
  trial: (gpu: GpuContext, bytes: number) => Promise<MemoryTrial | null> = tryMemory,
): Promise<ProvenDevice> {
  for (let bytes = offered; ; bytes = Math.floor(bytes / 2)) {
    const gpu = await acquire()
    const tried = await trial(gpu, bytes)
    if (tried) return { gpu, memory: provenMemory(tried, bytes) }
    gpu.destroy()
    if (bytes < LEAST_TRIAL) throw await gpu.lost
  }
}

function provenMemory({ asked, given }: MemoryTrial, offered: number): ProvenMemory {
  // All that was tried was there: then the rest is taken on trust, where less than all was tried.
  return { memoryBytes: given < asked ? given : offered, triedBytes: given }
}
