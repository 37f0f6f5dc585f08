// parameter = keep · parameter − rate · factor · direction over one matrix, a vec4 an invocation.
struct Params {
  length: u32,
  skip: u32,     // vec4s of the parameter's binding before the matrix
  factor: f32,
  rate: f32,
  keep: f32,     // 1 - lr * weightDecay
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> direction: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> parameter: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  if (i * 4u >= p.length) {
    return;
  }
  let old = parameter[i + p.skip];
  let updated = p.keep * old - p.rate * p.factor * direction[i];
  // The padding behind a matrix stays as it is, whatever lies behind the direction.
  let inside = vec4<u32>(i * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.length);
  parameter[i + p.skip] = select(old, updated, inside);
}
