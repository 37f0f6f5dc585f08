/** Owns the training step in jax-js: one jitted function from weights, moments and tokens to new ones and the loss. */
import { jit, nn, numpy as np, tree, valueAndGrad } from '@jax-js/jax'
import type { RunConfig } from '../../../src/protocol/runConfig.ts'
import type { Training } from '../contender.ts'
import { namedTensors, rotaryTables } from './llama.ts'

/** Arrays are counted by reference: passing one on gives it away, `.ref` keeps it. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- the package is not installed where this is compiled
type Array_ = any
type Tensors = Record<string, Array_>

function lossOf({ model, batch }: RunConfig) {
  const { dModel, heads, kvHeads, blockSize, vocabSize, layers, normEps } = model
  const headDim = dModel / heads
  const rows = batch * blockSize
  const tables = rotaryTables(model)

  const linear = (x: Array_, weight: Array_) => np.matmul(x, weight.transpose())
  const norm = (x: Array_, weight: Array_) => {
    const scale = np.reciprocal(np.sqrt(np.mean(np.square(x.ref), -1, { keepdims: true }).add(normEps)))
    return x.mul(scale).mul(weight)
  }
  const rotate = (x: Array_, count: number) => {
    const cos = np.array(tables.cos, { shape: tables.shape })
    const sin = np.array(tables.sin, { shape: tables.shape })
    const halves = x.reshape([batch, blockSize, count, 2, headDim / 2])
    const turned = halves.ref.mul(cos).add(np.flip(halves, 3).mul(sin))
    return turned.reshape([batch, blockSize, count, headDim])
  }

  /** Consumes the weights. */
  return (weights: Tensors, tokens: Array_, targets: Array_) => {
    const layer = (index: number) => (name: string) => weights[`model.layers.${index}.${name}.weight`]
    let stream = np.take(weights['model.embed_tokens.weight'], tokens, 0)
    for (let i = 0; i < layers; i++) {
      const w = layer(i)
      const normed = norm(stream.ref, w('input_layernorm'))
      const q = rotate(linear(normed.ref, w('self_attn.q_proj')), heads)
      const k = rotate(linear(normed.ref, w('self_attn.k_proj')), kvHeads)
      const v = linear(normed, w('self_attn.v_proj')).reshape([batch, blockSize, kvHeads, headDim])
      const mixed = nn.dotProductAttention(q, k, v, { isCausal: true }).reshape([rows, dModel])
      stream = stream.add(linear(mixed, w('self_attn.o_proj')))
      const middle = norm(stream.ref, w('post_attention_layernorm'))
      const gate = nn.silu(linear(middle.ref, w('mlp.gate_proj')))
      const gated = gate.mul(linear(middle, w('mlp.up_proj')))
      stream = stream.add(linear(gated, w('mlp.down_proj')))
    }
    const logits = linear(norm(stream, weights['model.norm.weight']), weights['lm_head.weight'])
    const scores = nn.logSoftmax(logits, -1).mul(nn.oneHot(targets, vocabSize))
    return np.sum(scores).mul(-1 / rows)
  }
}

export function jaxTraining(config: RunConfig, flat: Float32Array): Training {
  const { beta1, beta2, eps, weightDecay, gradClip } = config.optimizer
  const named = namedTensors(config.model, flat)
  const loss = lossOf(config)

  const update = (w: Array_, m: Array_, v: Array_, g: Array_, scalars: Array_[], decays: boolean) => {
    const [lr, correction1, correction2] = scalars
    const first = m.mul(beta1).add(g.ref.mul(1 - beta1))
    const second = v.mul(beta2).add(np.square(g).mul(1 - beta2))
    const change = first.ref.div(correction1.ref).div(np.sqrt(second.ref.div(correction2.ref)).add(eps))
    const kept = decays ? w.mul(np.subtract(1, lr.ref.mul(weightDecay))) : w
    return [kept.sub(change.mul(lr.ref)), first, second]
  }

  const step = jit(
    (
      weights: Tensors,
      first: Tensors,
      second: Tensors,
      tokens: Array_,
      targets: Array_,
      lr: Array_,
      correction1: Array_,
      correction2: Array_,
    ) => {
      const [value, gradients] = valueAndGrad(loss)(tree.ref(weights), tokens, targets)
      const squares = named.map(({ name }) => np.sum(np.square(gradients[name].ref))).reduce((a, b) => a.add(b))
      const scale = np.minimum(1, np.reciprocal(np.sqrt(squares).add(1e-6)).mul(gradClip))
      const scalars = [lr, correction1, correction2]
      const after: [Tensors, Tensors, Tensors] = [{}, {}, {}]
      for (const { name, decays } of named) {
        const g = gradients[name].mul(scale.ref)
        const parts = update(weights[name], first[name], second[name], g, scalars, decays)
        parts.forEach((part, i) => (after[i]![name] = part))
      }
      for (const scalar of [scale, ...scalars]) scalar.dispose()
      return [...after, value]
    },
  )

  const each = (make: (index: number) => Array_): Tensors =>
    Object.fromEntries(named.map(({ name }, index) => [name, make(index)]))
  let weights = each((i) => np.array(named[i]!.values, { shape: [...named[i]!.shape] }))
  let first = each((i) => np.zeros([...named[i]!.shape]))
  let second = each((i) => np.zeros([...named[i]!.shape]))
  const ids = (values: Uint32Array) => np.array(Int32Array.from(values), { dtype: np.int32 })
  return {
    async step({ step: number, lr, tokens, targets }) {
      const scalars = [lr, 1 - beta1 ** number, 1 - beta2 ** number].map((value) => np.array(value))
      let value: Array_
      ;[weights, first, second, value] = step(weights, first, second, ids(tokens), ids(targets), ...scalars)
      return ((await value.data()) as Float32Array)[0]!
    },
    release() {
      tree.dispose([weights, first, second])
      step.dispose()
    },
  }
}
