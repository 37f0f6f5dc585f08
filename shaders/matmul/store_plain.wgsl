// Included by the kernels: which columns an invocation owns, and how their sums are stored. C (+)= sums.
fn columnOf(unit: u32, j: u32) -> u32 {
  return unit * {{TN}}u + j;
}

fn store(row: u32, unit: u32, sums: array<f32, {{TN}}>) {
  for (var j = 0u; j < {{TN}}u; j++) {
    let column = columnOf(unit, j);
    if (row < p.m && column < p.n) {
      let i = row * p.n + column;
      if (p.accumulate == 1u) {
        c[i] += sums[j];
      } else {
        c[i] = sums[j];
      }
    }
  }
}
