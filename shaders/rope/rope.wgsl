// Turns the pair (x[i], x[i + HALF]) of every row's first heads by its position's angle, in place; direction -1 turns back.
const HALF = {{HALF}}u;

struct Params {
  pairs: u32, // rows * heads * HALF
  heads: u32,
  sequence: u32,
  stride: u32, // elements from row to row
  direction: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> turns: array<vec2<f32>>; // (cos, sin) by [position, HALF]
@group(0) @binding(2) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  if (i >= p.pairs) {
    return;
  }
  let pair = i % HALF;
  let head = (i / HALF) % p.heads;
  let row = i / (HALF * p.heads);
  let turn = turns[(row % p.sequence) * HALF + pair];
  let sine = p.direction * turn.y;
  let at = row * p.stride + head * (2u * HALF) + pair;
  let a = x[at];
  let b = x[at + HALF];
  x[at] = a * turn.x - b * sine;
  x[at + HALF] = b * turn.x + a * sine;
}
