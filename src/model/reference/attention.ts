/** Owns the reference causal attention (Vaswani et al. 2017) with grouped key and value heads (Ainslie et al. 2023). */

export interface AttentionShape {
  readonly batch: number
  readonly sequence: number
  readonly heads: number
  /** Query head h reads key and value head floor(h / (heads / kvHeads)). */
  readonly kvHeads: number
  readonly headDim: number
}

/** One head of one sequence, in element offsets: row t of a query starts at `q + t·qStride`. */
interface Head {
  readonly q: number
  readonly qStride: number
  readonly kv: number
  readonly kvStride: number
}

function* headsOf({ batch, sequence, heads, kvHeads, headDim }: AttentionShape): Generator<Head> {
  const qStride = heads * headDim
  const kvStride = kvHeads * headDim
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const kvHead = Math.floor(h / (heads / kvHeads))
      yield {
        q: b * sequence * qStride + h * headDim,
        qStride,
        kv: b * sequence * kvStride + kvHead * headDim,
        kvStride,
      }
    }
  }
}

/** softmax(q_t·k_j / sqrt(headDim)) over j ≤ t. */
function probabilities(q: Float64Array, k: Float64Array, head: Head, t: number, headDim: number): Float64Array {
  const p = new Float64Array(t + 1)
  let max = -Infinity
  for (let j = 0; j <= t; j++) {
    let dot = 0
    for (let c = 0; c < headDim; c++) dot += q[head.q + t * head.qStride + c]! * k[head.kv + j * head.kvStride + c]!
    p[j] = dot / Math.sqrt(headDim)
    max = Math.max(max, p[j]!)
  }
  let sum = 0
  for (let j = 0; j <= t; j++) sum += p[j] = Math.exp(p[j]! - max)
  return p.map((e) => e / sum)
}

/** `q` [batch·sequence, heads·headDim], `k` and `v` [batch·sequence, kvHeads·headDim] → the shape of `q`. */
export function attention(q: Float64Array, k: Float64Array, v: Float64Array, shape: AttentionShape): Float64Array {
  const out = new Float64Array(q.length)
  for (const head of headsOf(shape)) {
    for (let t = 0; t < shape.sequence; t++) {
      const p = probabilities(q, k, head, t, shape.headDim)
      for (let j = 0; j <= t; j++) {
        for (let c = 0; c < shape.headDim; c++) {
          out[head.q + t * head.qStride + c]! += p[j]! * v[head.kv + j * head.kvStride + c]!
        }
      }
    }
  }
  return out
}

/** Given `dOut` of the shape of `q`: the gradients of q, k and v; a shared key head sums over its query heads. */
export function attentionBackward(
  q: Float64Array,
  k: Float64Array,
  v: Float64Array,
  dOut: Float64Array,
  shape: AttentionShape,
): { dq: Float64Array; dk: Float64Array; dv: Float64Array } {
  const dq = new Float64Array(q.length)
  const dk = new Float64Array(k.length)
  const dv = new Float64Array(v.length)
  const { headDim, sequence } = shape
  const scale = 1 / Math.sqrt(headDim)
  for (const head of headsOf(shape)) {
    for (let t = 0; t < sequence; t++) {
      const p = probabilities(q, k, head, t, headDim)
      const row = head.q + t * head.qStride
      const dp = p.map((_, j) => {
        let dot = 0
        for (let c = 0; c < headDim; c++) dot += dOut[row + c]! * v[head.kv + j * head.kvStride + c]!
        return dot
      })
      const mean = p.reduce((sum, pj, j) => sum + pj * dp[j]!, 0)
      for (let j = 0; j <= t; j++) {
        const ds = p[j]! * (dp[j]! - mean) * scale
        const column = head.kv + j * head.kvStride
        for (let c = 0; c < headDim; c++) {
          dq[row + c]! += ds * k[column + c]!
          dk[column + c]! += ds * q[row + c]!
          dv[column + c]! += p[j]! * dOut[row + c]!
        }
      }
    }
  }
  return { dq, dk, dv }
}
