// active = factor * silu(hidden), silu(x) = x / (1 + exp(-x)), element by element (Hendrycks & Gimpel 2016).
struct Params {
  length: u32,
  factor: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> hidden: array<f32>;
@group(0) @binding(2) var<storage, read_write> active_: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  if (i < p.length) {
    let x = hidden[i];
    // Past 80 the exponential would leave f32's range, and infinities are not to be relied on.
    active_[i] = p.factor * x / (1.0 + exp(min(-x, 80.0)));
  }
}
