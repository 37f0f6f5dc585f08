// Included by the kernels: which columns an invocation owns, and how their sums are stored. The columns of C are gates,
// then as many ups; an invocation owns pairs of them, so that gated = silu(gate) * up needs no second pass over C.
@group(0) @binding(4) var<storage, read_write> gated: array<f32>;

fn columnOf(unit: u32, j: u32) -> u32 {
  return unit * {{TN}}u / 2u + j % ({{TN}}u / 2u) + select(0u, p.n / 2u, j >= {{TN}}u / 2u);
}

fn store(row: u32, unit: u32, sums: array<f32, {{TN}}>) {
  let half = p.n / 2u;
  for (var j = 0u; j < {{TN}}u / 2u; j++) {
    let column = columnOf(unit, j);
    if (row < p.m && column < half) {
      let gate = sums[j];
      let up = sums[j + {{TN}}u / 2u];
      c[row * p.n + column] = gate;
      c[row * p.n + half + column] = up;
      // As shaders/swiglu/forward.wgsl.
      gated[row * half + column] = gate / (1.0 + exp(min(-gate, 80.0))) * up;
    }
  }
}
