// Included by the kernels: which columns an invocation owns, and how their sums are stored. C = residual + sums.
@group(0) @binding(4) var<storage, read> residual: array<f32>;

fn columnOf(unit: u32, j: u32) -> u32 {
  return unit * {{TN}}u + j;
}

fn store(row: u32, unit: u32, sums: array<f32, {{TN}}>) {
  for (var j = 0u; j < {{TN}}u; j++) {
    let column = columnOf(unit, j);
    if (row < p.m && column < p.n) {
      let i = row * p.n + column;
      c[i] = residual[i] + sums[j];
    }
  }
}
