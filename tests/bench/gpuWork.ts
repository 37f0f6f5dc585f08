/** Owns the counting of what any engine asks of WebGPU: dispatches, submits, bytes of buffers. */
import type { GpuWork } from './contender.ts'

interface Methods {
  prototype: Record<string, (...args: never[]) => unknown>
}

/**
 * Wraps the methods of WebGPU's classes in this page or process, so that every engine is counted alike. Returns null where
 * the classes cannot be reached.
 */
export function countGpuWork(): (() => GpuWork) | null {
  const classes = globalThis as unknown as Record<string, Methods | undefined>
  const { GPUComputePassEncoder, GPUQueue, GPUDevice, GPUBuffer } = classes
  if (!GPUComputePassEncoder || !GPUQueue || !GPUDevice || !GPUBuffer) return null
  let [dispatches, submits, bytes, peakBytes] = [0, 0, 0, 0]
  const standing = new WeakMap<object, number>()
  after(GPUComputePassEncoder, 'dispatchWorkgroups', () => dispatches++)
  after(GPUComputePassEncoder, 'dispatchWorkgroupsIndirect', () => dispatches++)
  after(GPUQueue, 'submit', () => submits++)
  after(GPUDevice, 'createBuffer', (_, buffer) => {
    const { size } = buffer as GPUBuffer
    standing.set(buffer as object, size)
    bytes += size
    peakBytes = Math.max(peakBytes, bytes)
  })
  after(GPUBuffer, 'destroy', (buffer) => {
    bytes -= standing.get(buffer) ?? 0
    standing.delete(buffer)
  })
  return () => ({ dispatches, submits, peakBytes })
}

function after({ prototype }: Methods, name: string, seen: (self: object, result: unknown) => void): void {
  const original = prototype[name]
  if (!original) return
  prototype[name] = function (this: object, ...args: never[]) {
    const result = original.apply(this, args)
    seen(this, result)
    return result
  }
}
