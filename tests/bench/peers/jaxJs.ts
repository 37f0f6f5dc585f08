/** Owns jax-js as a contender of the bench. */
import { blockUntilReady, defaultDevice, grad, init, jit, nn, numpy as np } from '@jax-js/jax'
import type { Engine, Kernel } from '../contender.ts'
import type { AttentionCase, KernelCase, MatmulCase } from '../works.ts'
import { jaxTraining } from './jaxJsModel.ts'

type Operands = readonly Float32Array<ArrayBuffer>[]
/** Arrays are counted by reference: passing one on gives it away, `.ref` keeps it. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- the package is not installed where this is compiled
type Array_ = any

function kernelOf(inputs: Array_[], compute: (...inputs: Array_[]) => Array_[]): Kernel {
  const compiled = jit(compute)
  let last: Array_[] = []
  const dispose = () => {
    for (const array of last) array.dispose()
    last = []
  }
  return {
    async run(times) {
      // All results are kept until they are there: what is disposed before it was computed never is.
      const results: Array_[][] = []
      for (let i = 0; i < times; i++) results.push(compiled(...inputs.map((input) => input.ref)))
      await blockUntilReady(results.flat())
      dispose()
      last = results.pop()!
      for (const array of results.flat()) array.dispose()
    },
    async result() {
      const flat = np.concatenate(last.map((array) => array.ref.reshape([-1])))
      return (await flat.data()) as Float32Array
    },
    release() {
      dispose()
      for (const input of inputs) input.dispose()
      compiled.dispose()
    },
  }
}

function matmulKernel({ form, m, n, k }: MatmulCase, [a, b]: Operands): Kernel {
  const inputs = [
    np.array(a!, { shape: form === 'tn' ? [k, m] : [m, k] }),
    np.array(b!, { shape: form === 'nt' ? [n, k] : [k, n] }),
  ]
  return kernelOf(inputs, (x, y) => [np.matmul(form === 'tn' ? x.transpose() : x, form === 'nt' ? y.transpose() : y)])
}

function attentionKernel({ pass, batch, seq, heads, headDim }: AttentionCase, operands: Operands): Kernel {
  const inputs = operands.map((values) => np.array(values, { shape: [batch, seq, heads, headDim] }))
  const attend = (q: Array_, k: Array_, v: Array_) => nn.dotProductAttention(q, k, v, { isCausal: true })
  if (pass === 'forward') {
    const unused = inputs.pop()
    unused.dispose()
    return kernelOf(inputs, (q, k, v) => [attend(q, k, v)])
  }
  return kernelOf(inputs, (q, k, v, dOut) => {
    const scored = (q: Array_, k: Array_, v: Array_) => {
      const out = attend(q, k, v)
      return [np.sum(out.ref.mul(dOut)), out]
    }
    const [[dq, dk, dv], out] = grad(scored, { argnums: [0, 1, 2], hasAux: true })(q, k, v)
    return [out, dq, dk, dv]
  })
}

export async function load(): Promise<Engine> {
  const devices = await init('webgpu')
  if (!devices.includes('webgpu')) throw new Error('jax-js finds no WebGPU here.')
  defaultDevice('webgpu')
  return {
    kernel: (kernel: KernelCase, operands) =>
      Promise.resolve(kernel.op === 'matmul' ? matmulKernel(kernel, operands) : attentionKernel(kernel, operands)),
    training: (config, flat) => Promise.resolve(jaxTraining(config, flat)),
  }
}
