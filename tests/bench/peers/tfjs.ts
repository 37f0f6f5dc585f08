/**
 * Owns TensorFlow.js on WebGPU as a contender of the bench: its core and backend, without layers, data and WebGL, with its
 * own settings: of its matmul programs none was faster than its choice (`WEBGPU_MATMUL_PROGRAM_TYPE` 1 to 3).
 */
import '@tensorflow/tfjs-backend-webgpu'
import * as tf from '@tensorflow/tfjs-core'
import '@tensorflow/tfjs-core/dist/register_all_gradients'
import type { Engine, Kernel } from '../contender.ts'
import type { AttentionCase, KernelCase, MatmulCase } from '../works.ts'
import { tfjsTraining } from './tfjsModel.ts'

type Operands = readonly Float32Array<ArrayBuffer>[]
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- the package is not installed where this is compiled
type Tensor = any

const queue = (): GPUQueue => tf.backend().queue

function kernelOf(inputs: Tensor[], compute: (...inputs: Tensor[]) => Tensor[]): Kernel {
  let last: Tensor[] = []
  return {
    async run(times) {
      for (let i = 0; i < times; i++) {
        tf.dispose(last)
        last = tf.tidy(() => compute(...inputs))
      }
      const backend = tf.backend()
      backend.endComputePassEncoder()
      backend.submitQueue()
      await queue().onSubmittedWorkDone()
    },
    async result() {
      const flat = tf.tidy(() => tf.concat(last.map((tensor) => tf.reshape(tensor, [-1]))))
      const values = (await flat.data()) as Float32Array
      tf.dispose(flat)
      return values
    },
    release() {
      tf.dispose([...last, ...inputs])
    },
  }
}

function matmulKernel({ form, m, n, k }: MatmulCase, [a, b]: Operands): Kernel {
  const inputs = [tf.tensor2d(a!, form === 'tn' ? [k, m] : [m, k]), tf.tensor2d(b!, form === 'nt' ? [n, k] : [k, n])]
  return kernelOf(inputs, (x, y) => [tf.matMul(x, y, form === 'tn', form === 'nt')])
}

/** q, k, v [batch, seq, heads, headDim]; `mask` [seq, seq] is added to the scores. */
export function attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor): Tensor {
  const [queries, keys, values] = [q, k, v].map((x) => tf.transpose(x, [0, 2, 1, 3]))
  const scores = tf.mul(tf.matMul(queries, keys, false, true), 1 / Math.sqrt(q.shape[3]))
  return tf.transpose(tf.matMul(tf.softmax(tf.add(scores, mask)), values), [0, 2, 1, 3])
}

export function causalMask(length: number): Tensor {
  const values = Float32Array.from({ length: length ** 2 }, (_, i) => (i % length > Math.floor(i / length) ? -1e30 : 0))
  return tf.tensor2d(values, [length, length])
}

function attentionKernel({ pass, batch, seq, heads, headDim }: AttentionCase, operands: Operands): Kernel {
  const inputs = operands.map((values) => tf.tensor4d(values, [batch, seq, heads, headDim]))
  const mask = causalMask(seq)
  if (pass === 'forward') return kernelOf([...inputs, mask], (q, k, v) => [attend(q, k, v, mask)])
  return kernelOf([...inputs, mask], (q, k, v, dOut) => {
    let out: Tensor
    const attention = tf.grads((a: Tensor, b: Tensor, c: Tensor) => (out = tf.keep(attend(a, b, c, mask))))
    const gradients = attention([q, k, v], dOut)
    return [out, ...gradients]
  })
}

export async function load(): Promise<Engine> {
  if (!(await tf.setBackend('webgpu'))) throw new Error('TensorFlow.js finds no WebGPU here.')
  await tf.ready()
  tf.enableProdMode()
  return {
    kernel: (kernel: KernelCase, operands) =>
      Promise.resolve(kernel.op === 'matmul' ? matmulKernel(kernel, operands) : attentionKernel(kernel, operands)),
    training: (config, flat) => Promise.resolve(tfjsTraining(config, flat)),
  }
}
