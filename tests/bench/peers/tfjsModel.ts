/** Owns the training step in TensorFlow.js: gradients of all weights at once, then AdamW, in one tidy. */
import * as tf from '@tensorflow/tfjs-core'
import type { RunConfig } from '../../../src/protocol/runConfig.ts'
import type { Training } from '../contender.ts'
import { namedTensors, rotaryTables } from './llama.ts'
import { attend, causalMask } from './tfjs.ts'

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- the package is not installed where this is compiled
type Tensor = any
type Weights = ReadonlyMap<string, Tensor>

function lossOf({ model, batch }: RunConfig) {
  const { dModel, heads, kvHeads, blockSize, vocabSize, layers, normEps } = model
  const headDim = dModel / heads
  const rows = batch * blockSize
  const tables = rotaryTables(model)
  // A row for each token of the batch: `reverse` takes no more than four dimensions.
  const [cos, sin] = tf.tidy(() =>
    [tables.cos, tables.sin].map((table) => tf.tile(tf.tensor4d(table, tables.shape), [batch, 1, 1, 1])),
  )
  const mask = causalMask(blockSize)

  const linear = (x: Tensor, weight: Tensor) => tf.matMul(x, weight, false, true)
  const norm = (x: Tensor, weight: Tensor) =>
    tf.mul(tf.mul(x, tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), normEps))), weight)
  const rotate = (x: Tensor, count: number) => {
    const halves = tf.reshape(x, [rows, count, 2, headDim / 2])
    const turned = tf.add(tf.mul(halves, cos), tf.mul(tf.reverse(halves, 2), sin))
    return tf.reshape(turned, [batch, blockSize, count, headDim])
  }

  return {
    loss(weights: Weights, tokens: Tensor, targets: Tensor): Tensor {
      let stream = tf.gather(weights.get('model.embed_tokens.weight'), tokens)
      for (let i = 0; i < layers; i++) {
        const w = (name: string) => weights.get(`model.layers.${i}.${name}.weight`)
        const normed = norm(stream, w('input_layernorm'))
        const q = rotate(linear(normed, w('self_attn.q_proj')), heads)
        const k = rotate(linear(normed, w('self_attn.k_proj')), kvHeads)
        const v = tf.reshape(linear(normed, w('self_attn.v_proj')), [batch, blockSize, kvHeads, headDim])
        const mixed = tf.reshape(attend(q, k, v, mask), [rows, dModel])
        stream = tf.add(stream, linear(mixed, w('self_attn.o_proj')))
        const middle = norm(stream, w('post_attention_layernorm'))
        const gate = linear(middle, w('mlp.gate_proj'))
        const gated = tf.mul(tf.mul(gate, tf.sigmoid(gate)), linear(middle, w('mlp.up_proj')))
        stream = tf.add(stream, linear(gated, w('mlp.down_proj')))
      }
      const logits = linear(norm(stream, weights.get('model.norm.weight')), weights.get('lm_head.weight'))
      return tf.losses.softmaxCrossEntropy(tf.oneHot(targets, vocabSize), logits)
    },
    release: () => tf.dispose([cos, sin, mask]),
  }
}

export function tfjsTraining(config: RunConfig, flat: Float32Array): Training {
  const { beta1, beta2, eps, weightDecay, gradClip } = config.optimizer
  const named = namedTensors(config.model, flat)
  const { loss, release } = lossOf(config)
  const variables: Tensor[] = named.map(({ name, shape, values }) => tf.variable(tf.tensor(values, shape), true, name))
  const zeros = (suffix: string): Tensor[] =>
    named.map(({ name, shape }) => tf.variable(tf.zeros(shape), false, `${name}.${suffix}`))
  const [first, second] = [zeros('first'), zeros('second')]
  const weights: Weights = new Map(named.map(({ name }, i) => [name, variables[i]]))

  return {
    async step({ step, lr, tokens, targets }) {
      const value = tf.tidy(() => {
        const ids = (of: Uint32Array) => tf.tensor1d(Int32Array.from(of), 'int32')
        const [x, y] = [ids(tokens), ids(targets)]
        const result = tf.variableGrads(() => loss(weights, x, y), variables)
        const gradients: Tensor[] = named.map(({ name }) => result.grads[name])
        const squares = tf.sum(tf.stack(gradients.map((g) => tf.sum(tf.square(g)))))
        const scale = tf.minimum(1, tf.div(gradClip, tf.add(tf.sqrt(squares), 1e-6)))
        named.forEach(({ decays }, i) => {
          const g = tf.mul(gradients[i], scale)
          const m = tf.add(tf.mul(first[i], beta1), tf.mul(g, 1 - beta1))
          const v = tf.add(tf.mul(second[i], beta2), tf.mul(tf.square(g), 1 - beta2))
          const root = tf.add(tf.sqrt(tf.mul(v, 1 / (1 - beta2 ** step))), eps)
          const change = tf.mul(tf.div(m, root), lr / (1 - beta1 ** step))
          const kept = decays ? tf.mul(variables[i], 1 - lr * weightDecay) : variables[i]
          variables[i].assign(tf.sub(kept, change))
          first[i].assign(m)
          second[i].assign(v)
        })
        return result.value
      })
      const [mean] = (await value.data()) as Float32Array
      tf.dispose(value)
      return mean!
    },
    release() {
      release()
      tf.dispose([...variables, ...first, ...second])
    },
  }
}
