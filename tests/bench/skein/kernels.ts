/** Owns Skein's side of the kernel works: its own kernels on the bench's operands. */
import { tuneMatmul } from '../../../src/gpu/autotune.ts'
import type { PooledBuffer } from '../../../src/gpu/buffers.ts'
import type { GpuContext } from '../../../src/gpu/device.ts'
import { Recorder } from '../../../src/gpu/kernel.ts'
import { attentionKernels } from '../../../src/gpu/kernels/attention.ts'
import type { Kernel } from '../contender.ts'
import type { AttentionCase, KernelCase, MatmulCase } from '../works.ts'

type Operands = readonly Float32Array<ArrayBuffer>[]

export function skeinKernel(gpu: GpuContext, kernel: KernelCase, operands: Operands): Promise<Kernel> {
  return kernel.op === 'matmul' ? matmulKernel(gpu, kernel, operands) : attentionKernel(gpu, kernel, operands)
}

function kernelOf(
  gpu: GpuContext,
  record: (recorder: Recorder) => void,
  outputs: readonly { view: PooledBuffer; length: number }[],
  lent: readonly PooledBuffer[],
): Kernel {
  return {
    async run(times) {
      const recorder = new Recorder(gpu)
      for (let i = 0; i < times; i++) record(recorder)
      recorder.submit()
      await gpu.device.queue.onSubmittedWorkDone()
      gpu.check()
    },
    async result() {
      const recorder = new Recorder(gpu)
      const reads = outputs.map(({ view, length }) => recorder.readF32({ ...view, size: length * 4 }))
      recorder.submit()
      return joined(await Promise.all(reads))
    },
    release() {
      for (const buffer of lent) gpu.pool.release(buffer)
      gpu.pool.trim()
    },
  }
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    all.set(part, at)
    at += part.length
  }
  return all
}

async function matmulKernel(gpu: GpuContext, { form, m, n, k }: MatmulCase, operands: Operands): Promise<Kernel> {
  const shape = { form, m, n, k }
  const matmul = await tuneMatmul(gpu, [shape])
  const [a, b] = operands.map((values) => gpu.pool.upload(values))
  const c = gpu.pool.allocate(m * n * 4)
  const tensors = { a: a!, b: b!, c }
  return kernelOf(gpu, (recorder) => matmul.record(recorder, shape, tensors), [{ view: c, length: m * n }], [a!, b!, c])
}

async function attentionKernel(gpu: GpuContext, spec: AttentionCase, operands: Operands): Promise<Kernel> {
  const { batch, heads, seq: sequence, headDim, pass } = spec
  const attention = await attentionKernels(gpu, { heads, kvHeads: heads, headDim })
  const length = batch * sequence * heads * headDim
  const lend = (elements: number) => gpu.pool.allocate(elements * 4)
  const [q, k, v, dOut] = operands.map((values) => gpu.pool.upload(values)) as [
    PooledBuffer,
    PooledBuffer,
    PooledBuffer,
    PooledBuffer,
  ]
  const [out, dq, dk, dv] = [lend(length), lend(length), lend(length), lend(length)]
  const [logSumExp, rowDots] = [lend(batch * sequence * heads), lend(batch * sequence * heads)]
  const results = pass === 'forward' ? [out] : [out, dq, dk, dv]
  return kernelOf(
    gpu,
    (recorder) => {
      attention.forward(recorder, { q, k, v, out, logSumExp }, { batch, sequence })
      if (pass === 'forward') return
      const tensors = { q, k, v, out, logSumExp, dOut, rowDots, dq, dk, dv }
      attention.backward(recorder, tensors, { batch, sequence })
    },
    results.map((view) => ({ view, length })),
    [q, k, v, dOut, out, dq, dk, dv, logSumExp, rowDots],
  )
}
