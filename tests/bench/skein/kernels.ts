/** Owns Skein's side of the kernel works: its own kernels on the bench's operands. */
import { tuneMatmul } from '../../../src/gpu/autotune.ts'
import type { PooledBuffer } from '../../../src/gpu/buffers.ts'
import type { GpuContext } from '../../../src/gpu/device.ts'
import { Recorder } from '../../../src/gpu/recorder.ts'
import { attentionKernels } from '../../../src/gpu/kernels/attention.ts'
import type { Kernel } from '../contender.ts'
import type { AttentionCase, KernelCase, MatmulCase } from '../works.ts'

type Operands = readonly Float32Array<ArrayBuffer>[]

export function skeinKernel(gpu: GpuContext, kernel: KernelCase, operands: Operands): Promise<Kernel> {
  return kernel.op === 'matmul' ? matmulKernel(gpu, kernel, operands) : attentionKernel(gpu, kernel, operands)
}

/** `length` f32 values at the start of `view`. */
interface Output {
  readonly view: PooledBuffer
  readonly length: number
}

/** `inOrder` puts the outputs' values into the order of `Kernel.result`. */
function kernelOf(
  gpu: GpuContext,
  record: (recorder: Recorder) => void,
  outputs: readonly Output[],
  inOrder: (values: readonly Float32Array[]) => readonly Float32Array[],
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
      return joined(inOrder(await Promise.all(reads)))
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
  return kernelOf(
    gpu,
    (recorder) => matmul.record(recorder, shape, tensors),
    [{ view: c, length: m * n }],
    (values) => values,
    [a!, b!, c],
  )
}

/** [rows, parts side by side] → each part [rows, width / parts]. */
function partsOf(values: Float32Array, rows: number, parts: number): Float32Array[] {
  const width = values.length / rows / parts
  return Array.from({ length: parts }, (_, part) => {
    const own = new Float32Array(rows * width)
    for (let row = 0; row < rows; row++) {
      const at = (row * parts + part) * width
      own.set(values.subarray(at, at + width), row * width)
    }
    return own
  })
}

/** The inverse of {@link partsOf}. */
function sideBySide(parts: readonly Float32Array[], rows: number): Float32Array<ArrayBuffer> {
  const width = parts[0]!.length / rows
  const all = new Float32Array(rows * width * parts.length)
  parts.forEach((part, i) => {
    for (let row = 0; row < rows; row++) {
      all.set(part.subarray(row * width, (row + 1) * width), (row * parts.length + i) * width)
    }
  })
  return all
}

async function attentionKernel(gpu: GpuContext, spec: AttentionCase, operands: Operands): Promise<Kernel> {
  const { batch, heads, seq: sequence, headDim, pass } = spec
  const attention = await attentionKernels(gpu, { heads, kvHeads: heads, headDim })
  const rows = batch * sequence
  const width = heads * headDim
  const lend = (columns: number) => gpu.pool.allocate(rows * columns * 4)
  const qkv = gpu.pool.upload(sideBySide(operands.slice(0, 3), rows))
  const dOut = gpu.pool.upload(operands[3]!)
  const [out, dqkv, logSumExp, rowDots] = [lend(width), lend(3 * width), lend(heads), lend(heads)]
  const backward = pass === 'forwardBackward'
  return kernelOf(
    gpu,
    (recorder) => {
      attention.forward(recorder, { qkv, out, logSumExp }, { batch, sequence })
      if (backward) attention.backward(recorder, { qkv, out, logSumExp, dOut, rowDots, dqkv }, { batch, sequence })
    },
    [{ view: out, length: rows * width }, ...(backward ? [{ view: dqkv, length: 3 * rows * width }] : [])],
    ([result, gradients]) => [result!, ...(gradients ? partsOf(gradients, rows, 3) : [])],
    [qkv, dOut, out, dqkv, logSumExp, rowDots],
  )
}
