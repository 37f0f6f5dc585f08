// The reverse of int8_encode: one invocation a word of four signed bytes.
struct Params {
  rows: u32,
  columns: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> encoded: array<u32>;
@group(0) @binding(2) var<storage, read_write> values: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  let words = (p.columns + 3u) / 4u;
  let row = i / words;
  if (row >= p.rows) {
    return;
  }
  let scale = bitcast<f32>(encoded[row]);
  let word = encoded[p.rows + i];
  for (var b = 0u; b < 4u; b++) {
    let c = 4u * (i % words) + b;
    if (c < p.columns) {
      // The shift to the top and back spreads the byte's sign.
      values[row * p.columns + c] = f32(bitcast<i32>(word << (24u - 8u * b)) >> 24u) * scale;
    }
  }
}
