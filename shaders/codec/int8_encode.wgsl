// Absmax int8: a row (a token) becomes an f32 scale, absmax / 127, and ceil(columns / 4) words of four signed bytes.
// The scales of all rows come first. {{LANES}} neighbouring invocations share a row; 1 needs no barrier.
struct Params {
  rows: u32,
  columns: u32,
  counter: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> values: array<f32>;
@group(0) @binding(2) var<storage, read_write> encoded: array<u32>;

const LANES = {{LANES}}u;
const ROWS = {{SIZE}}u / LANES;
var<workgroup> parts: array<f32, {{SIZE}}>;

@compute @workgroup_size({{SIZE}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = (group.x + group.y * count.x) * ROWS + index / LANES;
  let lane = index % LANES;
  let base = min(row, p.rows - 1u) * p.columns;
  var largest = 0.0;
  for (var c = lane; c < p.columns; c += LANES) {
    largest = max(largest, abs(values[base + c]));
  }
  if (LANES > 1u) {
    parts[index] = largest;
    workgroupBarrier();
    for (var i = 0u; i < LANES; i++) {
      largest = max(largest, parts[index - lane + i]);
    }
  }
  if (row >= p.rows) {
    return;
  }
  // A row this small is zero: its reciprocal would leave f32's range.
  let silent = largest < 1e-34;
  let perUnit = select(127.0 / largest, 0.0, silent);
  if (lane == 0u) {
    encoded[row] = bitcast<u32>(select(largest / 127.0, 0.0, silent));
  }
  let words = (p.columns + 3u) / 4u;
  for (var w = lane; w < words; w += LANES) {
    var word = 0u;
    for (var b = 0u; b < 4u; b++) {
      let c = 4u * w + b;
      if (c < p.columns) {
        let q = i32(clamp(rounded(values[base + c] * perUnit, base + c, p.counter), -127.0, 127.0));
        word |= (bitcast<u32>(q) & 255u) << (8u * b);
      }
    }
    encoded[p.rows + row * words + w] = word;
  }
}
