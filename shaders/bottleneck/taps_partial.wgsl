// First of two passes to the gradient of the taps of taps.wgsl: partial[chunk, j - 1, c] = sum over the chunk's rows t, in order, of
// dy[t, c] * x[t - j, c], where t - j is in t's sequence. One invocation an element of partial.
struct Params {
  rows: u32,
  columns: u32,
  sequence: u32, // rows of one
  taps: u32,
  chunk: u32, // rows a chunk
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let width = p.taps * p.columns;
  if (id.x >= width) {
    return;
  }
  let column = id.x % p.columns;
  let back = id.x / p.columns + 1u;
  let first = id.y * p.chunk;
  var sum = 0.0;
  for (var row = first; row < min(first + p.chunk, p.rows); row++) {
    if (row % p.sequence >= back) {
      sum += dy[row * p.columns + column] * x[(row - back) * p.columns + column];
    }
  }
  partial[id.y * width + id.x] = sum;
}
