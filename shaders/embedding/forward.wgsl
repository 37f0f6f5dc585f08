// out[i] = table[tokens[i]]: one invocation an output vector.
alias Vector = {{VECTOR}};
const VECTORS = {{VECTORS}}u; // vectors in a row

struct Params {
  rows: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> tokens: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<Vector>;
@group(0) @binding(3) var<storage, read_write> out: array<Vector>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  let row = i / VECTORS;
  if (row < p.rows) {
    out[i] = table[tokens[row] * VECTORS + i % VECTORS];
  }
}
