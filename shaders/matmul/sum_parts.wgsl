// C (+)= the planes of partial sums over k, added in the order of k, so that two runs give the same bits.
struct Params {
  vectors: u32, // vec4s of C
  parts: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> partial: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  if (i >= p.vectors) {
    return;
  }
  var sum = vec4<f32>();
  for (var part = 0u; part < p.parts; part++) {
    sum += partial[part * p.vectors + i];
  }
  if (p.accumulate == 1u) {
    sum += c[i];
  }
  c[i] = sum;
}
