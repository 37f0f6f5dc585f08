// y = x * inverse * weight, inverse = 1 / sqrt(mean(x^2) + eps), row by row (Zhang & Sennrich 2019).
// {{LANES}} neighbouring invocations share a row; 1 needs no barrier.
alias Vector = {{VECTOR}};
const WIDTH = {{WIDTH}}u; // vectors in a row

fn product(a: Vector, b: Vector) -> f32 {
  return {{PRODUCT}};
}

struct Params {
  rows: u32,
  columns: u32,
  eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Vector>;
@group(0) @binding(2) var<storage, read> weight: array<Vector>;
@group(0) @binding(3) var<storage, read_write> y: array<Vector>;
@group(0) @binding(4) var<storage, read_write> inverse: array<f32>;

const LANES = {{LANES}}u;
const ROWS = {{SIZE}}u / LANES;
var<workgroup> parts: array<f32, {{SIZE}}>;

@compute @workgroup_size({{SIZE}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = (group.x + group.y * count.x) * ROWS + index / LANES;
  let lane = index % LANES;
  let live = row < p.rows;
  let base = min(row, p.rows - 1u) * WIDTH;
  var squares = 0.0;
  for (var c = lane; c < WIDTH; c += LANES) {
    let v = x[base + c];
    squares += product(v, v);
  }
  if (LANES > 1u) {
    parts[index] = squares;
    workgroupBarrier();
    squares = 0.0;
    for (var i = 0u; i < LANES; i++) {
      squares += parts[index - lane + i];
    }
  }
  let inv = inverseSqrt(squares / f32(p.columns) + p.eps);
  if (live) {
    if (lane == 0u) {
      inverse[row] = inv;
    }
    for (var c = lane; c < WIDTH; c += LANES) {
      y[base + c] = x[base + c] * inv * weight[c];
    }
  }
}
