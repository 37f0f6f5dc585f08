// dx = inverse * w * dy - x * inverse^3 * <w * dy, x> / columns (+ residual, with p.residual = 1), row by row.
// {{LANES}} neighbouring invocations share a row; 1 needs no barrier.
alias Vector = {{VECTOR}};
const WIDTH = {{WIDTH}}u; // vectors in a row

fn product(a: Vector, b: Vector) -> f32 {
  return {{PRODUCT}};
}

struct Params {
  rows: u32,
  columns: u32,
  residual: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Vector>;
@group(0) @binding(2) var<storage, read> weight: array<Vector>;
@group(0) @binding(3) var<storage, read> inverse: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<Vector>;
@group(0) @binding(5) var<storage, read> residual: array<Vector>;
@group(0) @binding(6) var<storage, read_write> dx: array<Vector>;

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
  let inv = inverse[min(row, p.rows - 1u)];
  // x * inverse has unit size, so that the product of large rows stays finite.
  var sum = 0.0;
  for (var c = lane; c < WIDTH; c += LANES) {
    sum += product(weight[c] * dy[base + c], x[base + c] * inv);
  }
  if (LANES > 1u) {
    parts[index] = sum;
    workgroupBarrier();
    sum = 0.0;
    for (var i = 0u; i < LANES; i++) {
      sum += parts[index - lane + i];
    }
  }
  let mean = sum / f32(p.columns);
  if (live) {
    for (var c = lane; c < WIDTH; c += LANES) {
      let i = base + c;
      var d = inv * (weight[c] * dy[i] - x[i] * inv * mean);
      if (p.residual == 1u) {
        d += residual[i];
      }
      dx[i] = d;
    }
  }
}
