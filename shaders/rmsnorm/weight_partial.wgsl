// First of two passes: partial[chunk, c] = sum over the chunk's rows, in order, of dy * x * inverse.
struct Params {
  rows: u32,
  columns: u32,
  chunk: u32, // rows a chunk
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> inverse: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= p.columns) {
    return;
  }
  let first = id.y * p.chunk;
  var sum = 0.0;
  for (var row = first; row < min(first + p.chunk, p.rows); row++) {
    let i = row * p.columns + id.x;
    sum = fma(dy[i], x[i] * inverse[row], sum);
  }
  partial[id.y * p.columns + id.x] = sum;
}
