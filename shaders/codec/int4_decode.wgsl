// The reverse of int4_encode: one invocation a word of eight numbers; p.scale undoes the encoder's.
struct Params {
  rows: u32,
  columns: u32,
  scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> encoded: array<u32>;
@group(0) @binding(2) var<storage, read_write> values: array<f32>;

const GROUP = 32u;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  let words = (p.columns + 7u) / 8u;
  let row = i / words;
  if (row >= p.rows) {
    return;
  }
  let groups = (p.columns + GROUP - 1u) / GROUP;
  let first = i % words * 8u;
  let scale = row * groups + first / GROUP;
  let unit = unpack2x16float(encoded[scale / 2u])[scale % 2u] * p.scale;
  let word = encoded[(p.rows * groups + 1u) / 2u + i];
  for (var n = 0u; n < 8u; n++) {
    let c = first + n;
    if (c < p.columns) {
      // The shift to the top and back spreads the number's sign.
      values[row * p.columns + c] = f32(bitcast<i32>(word << (28u - 4u * n)) >> 28u) * unit;
    }
  }
}
