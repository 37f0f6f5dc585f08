// rope.wgsl for halves of whole vec4s: an invocation turns four neighbouring pairs of every head of a row, in place.
const VECTORS = {{VECTORS}}u; // in half a head

struct Params {
  rows: u32,
  heads: u32,
  sequence: u32,
  stride: u32, // vectors from row to row
  direction: f32, // -1 turns back
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> turns: array<vec4<f32>>; // two of (cos, sin) by [position, 2 * VECTORS]
@group(0) @binding(2) var<storage, read_write> x: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  let row = i / VECTORS;
  let n = i % VECTORS;
  if (row >= p.rows) {
    return;
  }
  let turn = 2u * (row % p.sequence * VECTORS + n);
  let low = turns[turn];
  let high = turns[turn + 1u];
  let cosine = vec4<f32>(low.xz, high.xz);
  let sine = p.direction * vec4<f32>(low.yw, high.yw);
  var at = row * p.stride + n;
  for (var head = 0u; head < p.heads; head++) {
    let a = x[at];
    let b = x[at + VECTORS];
    x[at] = a * cosine - b * sine;
    x[at + VECTORS] = b * cosine + a * sine;
    at += 2u * VECTORS;
  }
}
