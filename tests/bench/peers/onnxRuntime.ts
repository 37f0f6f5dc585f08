/** Owns ONNX Runtime Web on WebGPU as a contender of the bench: products only, operands and results on the GPU. */
import * as ort from 'onnxruntime-web/webgpu'
import type { Engine, Kernel } from '../contender.ts'
import type { MatmulCase } from '../works.ts'
import { productModel } from './onnxModel.ts'

const USAGE = 0x80 | 0x04 | 0x08 // STORAGE | COPY_SRC | COPY_DST

async function matmulKernel(
  { form, m, n, k }: MatmulCase,
  operands: readonly Float32Array<ArrayBuffer>[],
): Promise<Kernel> {
  const shapes = { a: form === 'tn' ? [k, m] : [m, k], b: form === 'nt' ? [n, k] : [k, n], c: [m, n] }
  const session = await ort.InferenceSession.create(productModel(form, shapes), {
    executionProviders: ['webgpu'],
    preferredOutputLocation: 'gpu-buffer',
    graphOptimizationLevel: 'all',
  })
  const device: GPUDevice = await ort.env.webgpu.device
  const create = (length: number) => device.createBuffer({ size: length * 4, usage: USAGE })
  const buffers = [...operands.map((values) => create(values.length)), create(m * n)]
  operands.forEach((values, i) => device.queue.writeBuffer(buffers[i]!, 0, values))
  const [a, b, c] = Object.values(shapes).map((dims, i) =>
    ort.Tensor.fromGpuBuffer(buffers[i]!, { dataType: 'float32', dims }),
  )
  return {
    async run(times) {
      for (let i = 0; i < times; i++) await session.run({ a: a!, b: b! }, { c: c! })
      await device.queue.onSubmittedWorkDone()
    },
    async result() {
      const staging = device.createBuffer({ size: m * n * 4, usage: 0x01 | 0x08 })
      const encoder = device.createCommandEncoder()
      encoder.copyBufferToBuffer(buffers[2]!, 0, staging, 0, m * n * 4)
      device.queue.submit([encoder.finish()])
      await staging.mapAsync(0x01)
      const values = new Float32Array(staging.getMappedRange().slice(0))
      staging.destroy()
      return values
    },
    async release() {
      await session.release()
      for (const buffer of buffers) buffer.destroy()
    },
  }
}

export async function load(): Promise<Engine> {
  // One thread: the CPU only records commands.
  ort.env.wasm.numThreads = 1
  if (!import.meta.env.SSR) ort.env.wasm.wasmPaths = (await import('./onnxRuntimeFiles.ts')).wasmPaths
  return {
    kernel: (kernel, operands) => (kernel.op === 'matmul' ? matmulKernel(kernel, operands) : Promise.resolve(null)),
  }
}
