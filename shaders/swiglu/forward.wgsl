// out = silu(gate) * up, silu(g) = g / (1 + exp(-g)) (Shazeer 2020); gate and up are the halves of a row.
alias Vector = {{VECTOR}};
const WIDTH = {{WIDTH}}u; // vectors in half a row

struct Params {
  rows: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gateUp: array<Vector>; // [rows, 2 * WIDTH]
@group(0) @binding(2) var<storage, read_write> out: array<Vector>; // [rows, WIDTH]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  if (i < p.rows * WIDTH) {
    let at = i + i / WIDTH * WIDTH;
    let g = gateUp[at];
    // Past 80 the exponential would leave f32's range, and infinities are not to be relied on.
    out[i] = g / (1.0 + exp(min(-g, Vector(80.0)))) * gateUp[at + WIDTH];
  }
}
