// One AdamW update (Loshchilov & Hutter 2019, in PyTorch's order) over a range of the flat vectors.
// Elements of the range below p.decayLength shrink by lr * weightDecay first.
struct Params {
  length: u32,
  decayLength: u32,
  keep: f32,        // 1 - lr * weightDecay
  stepSize: f32,    // lr / (1 - beta1^t)
  rootBias2: f32,   // sqrt(1 - beta2^t)
  eps: f32,
  beta1: f32,
  beta2: f32,
  oneMinusBeta1: f32,
  oneMinusBeta2: f32,
  scale: f32,       // of the gradient
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gradient: array<f32>;
@group(0) @binding(2) var<storage, read_write> parameter: array<f32>;
@group(0) @binding(3) var<storage, read_write> first: array<f32>;
@group(0) @binding(4) var<storage, read_write> second: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  if (i >= p.length) {
    return;
  }
  let g = gradient[i] * p.scale;
  let m = p.beta1 * first[i] + p.oneMinusBeta1 * g;
  let v = p.beta2 * second[i] + p.oneMinusBeta2 * g * g;
  first[i] = m;
  second[i] = v;
  let kept = parameter[i] * select(1.0, p.keep, i < p.decayLength);
  parameter[i] = kept - p.stepSize * m / (sqrt(v) / p.rootBias2 + p.eps);
}
