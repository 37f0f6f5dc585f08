/**
 * Owns the reference Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks") with the scale of
 * Moonlight (Liu et al. 2025, "Muon is scalable for LLM training"), in f64.
 */

export interface MuonParameters {
  readonly lr: number
  readonly momentum: number
  readonly weightDecay: number
}

/** One update in place of a matrix [rows, columns] and its momentum. */
export function muon(
  parameter: Float64Array,
  gradient: Float64Array,
  momentum: Float64Array,
  { rows, columns }: { rows: number; columns: number },
  { lr, momentum: beta, weightDecay }: MuonParameters,
): void {
  const direction = gradient.map((g, i) => {
    const m = (momentum[i] = beta * momentum[i]! + (1 - beta) * g)
    return (1 - beta) * g + beta * m
  })
  const update = orthogonalized(direction, rows, columns)
  const step = lr * 0.2 * Math.sqrt(Math.max(rows, columns))
  for (let i = 0; i < parameter.length; i++) parameter[i] = parameter[i]! * (1 - lr * weightDecay) - step * update[i]!
}

/** Five quintic Newton-Schulz steps: U·Vᵀ of the matrix's U·S·Vᵀ, with singular values about one instead of one. */
export function orthogonalized(matrix: Float64Array, rows: number, columns: number): Float64Array {
  if (rows > columns) return transposed(orthogonalized(transposed(matrix, rows, columns), columns, rows), columns, rows)
  const norm = Math.sqrt(matrix.reduce((sum, x) => sum + x * x, 0))
  let x = matrix.map((value) => value / (norm + 1e-7))
  for (let step = 0; step < 5; step++) {
    const gram = product(x, transposed(x, rows, columns), rows, columns, rows)
    const square = product(gram, gram, rows, rows, rows)
    const inner = gram.map((value, i) => -4.775 * value + 2.0315 * square[i]!)
    const further = product(inner, x, rows, rows, columns)
    x = x.map((value, i) => 3.4445 * value + further[i]!)
  }
  return x
}

/** [m, k]·[k, n] */
function product(a: Float64Array, b: Float64Array, m: number, k: number, n: number): Float64Array {
  const c = new Float64Array(m * n)
  for (let i = 0; i < m; i++) {
    for (let l = 0; l < k; l++) {
      const left = a[i * k + l]!
      for (let j = 0; j < n; j++) c[i * n + j]! += left * b[l * n + j]!
    }
  }
  return c
}

function transposed(matrix: Float64Array, rows: number, columns: number): Float64Array {
  return Float64Array.from(matrix, (_, i) => matrix[(i % rows) * columns + Math.floor(i / rows)]!)
}
