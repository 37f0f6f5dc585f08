// Two f32 become one word of two IEEE half floats; pack2x16float needs no shader-f16. Values past the half's range are
// clamped, not turned into infinities. p.scale, a power of two, lifts small gradients out of the half's subnormals.
struct Params {
  words: u32,
  length: u32,
  scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> values: array<f32>;
@group(0) @binding(2) var<storage, read_write> encoded: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  if (i >= p.words) {
    return;
  }
  var pair = vec2<f32>(values[2u * i], 0.0);
  if (2u * i + 1u < p.length) {
    pair.y = values[2u * i + 1u];
  }
  encoded[i] = pack2x16float(clamp(pair * p.scale, vec2<f32>(-65504.0), vec2<f32>(65504.0)));
}
