// Included by the kernels: C, which of its columns an invocation owns, and how {{COUNT}} sums of a row are stored.
// The columns of C are gates, then as many ups; an invocation owns pairs of them, so that gated = silu(gate) * up needs no
// second pass over C. A column is one {{VECTOR}}, 2^{{SHIFT}} floats; an invocation's lie
// {{APART}} apart.
@group(0) @binding(3) var<storage, read_write> c: array<{{VECTOR}}>;
@group(0) @binding(4) var<storage, read_write> gated: array<{{VECTOR}}>;

fn columnOf(unit: u32, j: u32) -> u32 {
  let isUp = j >= {{PAIRS}}u;
  let pair = select(j, j - {{PAIRS}}u, isUp);
//:for on {{ADJACENT}}
  let column = unit * {{PAIRS}}u + pair;
//:end
//:for on {{SPREAD}}
  let column = unit / {{APART}}u * {{APART}}u * {{PAIRS}}u + unit % {{APART}}u + pair * {{APART}}u;
//:end
  return select(column, column + (p.n >> ({{SHIFT}}u + 1u)), isUp);
}

fn store(row: u32, unit: u32, sums: array<{{VECTOR}}, {{COUNT}}>) {
  let half = p.n >> ({{SHIFT}}u + 1u);
  for (var j = 0u; j < {{PAIRS}}u; j++) {
    let column = columnOf(unit, j);
    if (row < p.m && column < half) {
      let gate = sums[j];
      let up = sums[j + {{PAIRS}}u];
      c[row * 2u * half + column] = gate;
      c[row * 2u * half + half + column] = up;
      // As shaders/swiglu/forward.wgsl.
      gated[row * half + column] = gate / (1.0 + exp(min(-gate, {{VECTOR}}(80.0)))) * up;
    }
  }
}
