// total[c] += sum over rows, in order, of values[row, c]: the second pass of a two-pass reduction.
struct Params {
  rows: u32,
  columns: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> values: array<f32>;
@group(0) @binding(2) var<storage, read_write> total: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= p.columns) {
    return;
  }
  var sum = 0.0;
  for (var row = 0u; row < p.rows; row++) {
    sum += values[row * p.columns + id.x];
  }
  total[id.x] += sum;
}
