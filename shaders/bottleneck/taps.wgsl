// A short causal convolution, column by column: y[t, c] = x[t, c] + sum over j from 1 of taps[j - 1, c] * x[t - j, c], within a sequence.
// With DIRECTION -1 its transpose, which takes y's gradient to x's: rows after instead of rows before. One invocation an element.
const DIRECTION = {{DIRECTION}};

struct Params {
  rows: u32,
  columns: u32,
  sequence: u32, // rows of one
  taps: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> taps: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  if (i >= p.rows * p.columns) {
    return;
  }
  let column = i % p.columns;
  let place = (i / p.columns) % p.sequence;
  let room = select(p.sequence - 1u - place, place, DIRECTION == 1);
  var sum = x[i];
  for (var j = 1u; j <= min(p.taps, room); j++) {
    sum += taps[(j - 1u) * p.columns + column] * x[u32(i32(i) - DIRECTION * i32(j * p.columns))];
  }
  y[i] = sum;
}
