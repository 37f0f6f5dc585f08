// Included by the kernels: C, which of its columns an invocation owns, and how {{COUNT}} sums of a row are stored.
// Here C = residual + sums. A column is one {{VECTOR}}, 2^{{SHIFT}} floats; an invocation's lie {{APART}} apart.
@group(0) @binding(3) var<storage, read_write> c: array<{{VECTOR}}>;
@group(0) @binding(4) var<storage, read> residual: array<{{VECTOR}}>;

fn columnOf(unit: u32, j: u32) -> u32 {
//:for on {{ADJACENT}}
  return unit * {{COUNT}}u + j;
//:end
//:for on {{SPREAD}}
  return unit / {{APART}}u * {{APART}}u * {{COUNT}}u + unit % {{APART}}u + j * {{APART}}u;
//:end
}

fn store(row: u32, unit: u32, sums: array<{{VECTOR}}, {{COUNT}}>) {
  let width = p.n >> {{SHIFT}}u;
  for (var j = 0u; j < {{COUNT}}u; j++) {
    let column = columnOf(unit, j);
    if (row < p.m && column < width) {
      let i = row * width + column;
      c[i] = residual[i] + sums[j];
    }
  }
}
