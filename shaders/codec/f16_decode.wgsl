// The reverse of f16_encode; p.scale undoes the encoder's.
struct Params {
  words: u32,
  length: u32,
  scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> encoded: array<u32>;
@group(0) @binding(2) var<storage, read_write> values: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  if (i >= p.words) {
    return;
  }
  let pair = unpack2x16float(encoded[i]) * p.scale;
  values[2u * i] = pair.x;
  if (2u * i + 1u < p.length) {
    values[2u * i + 1u] = pair.y;
  }
}
