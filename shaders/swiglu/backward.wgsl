// dGate = dy * up * s * (1 + gate * (1 - s)), dUp = dy * gate * s, with s = 1 / (1 + exp(-gate)); halves of a row.
alias Vector = {{VECTOR}};
const WIDTH = {{WIDTH}}u; // vectors in half a row

struct Params {
  rows: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gateUp: array<Vector>; // [rows, 2 * WIDTH]
@group(0) @binding(2) var<storage, read> dy: array<Vector>; // [rows, WIDTH]
@group(0) @binding(3) var<storage, read_write> dGateUp: array<Vector>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  if (i < p.rows * WIDTH) {
    let at = i + i / WIDTH * WIDTH;
    let g = gateUp[at];
    let d = dy[i];
    let s = 1.0 / (1.0 + exp(min(-g, Vector(80.0))));
    dGateUp[at] = d * gateUp[at + WIDTH] * s * (1.0 + g * (1.0 - s));
    dGateUp[at + WIDTH] = d * g * s;
  }
}
