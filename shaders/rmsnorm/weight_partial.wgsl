// First of two passes: partial[chunk, c] = sum over the chunk's rows, in order, of dy * x * inverse.
alias Vector = {{VECTOR}};
const WIDTH = {{WIDTH}}u; // vectors in a row

struct Params {
  rows: u32,
  chunk: u32, // rows a chunk
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Vector>;
@group(0) @binding(2) var<storage, read> inverse: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<Vector>;
@group(0) @binding(4) var<storage, read_write> partial: array<Vector>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= WIDTH) {
    return;
  }
  let first = id.y * p.chunk;
  var sum = Vector();
  for (var row = first; row < min(first + p.chunk, p.rows); row++) {
    let i = row * WIDTH + id.x;
    sum += dy[i] * (x[i] * inverse[row]);
  }
  partial[id.y * WIDTH + id.x] = sum;
}
