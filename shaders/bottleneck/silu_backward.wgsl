// In place: the gradient of factor * silu(hidden) becomes that of hidden, with s = 1 / (1 + exp(-x)):
// gradient * factor * s * (1 + x * (1 - s)).
struct Params {
  length: u32,
  factor: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> hidden: array<f32>;
@group(0) @binding(2) var<storage, read_write> gradient: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  if (i < p.length) {
    let x = hidden[i];
    let s = 1.0 / (1.0 + exp(min(-x, 80.0)));
    gradient[i] *= p.factor * s * (1.0 + x * (1.0 - s));
  }
}
