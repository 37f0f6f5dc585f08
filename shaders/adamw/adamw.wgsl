// One AdamW update (Loshchilov & Hutter 2019, in PyTorch's order) over a range of the flat vectors, in blocks of {{COLUMNS}}
// vec4s, one an invocation: a single vec4 on GPUs, two on software adapters, where every access costs a bounds check.
// Blocks of the range below p.decayBlocks shrink by lr * weightDecay first. Comes after moments_f32 or moments_bf16.
struct Params {
  blocks: u32,
  decayBlocks: u32,
  skip: u32,           // blocks of the moments' bindings before the range
  start: u32,          // the range's first element, counted in the flat vector
  eps: f32,
  beta1: f32,
  beta2: f32,
  oneMinusBeta1: f32,
  oneMinusBeta2: f32,
  keep: f32,           // 1 - lr * weightDecay
  stepSize: f32,       // lr / (1 - beta1^t)
  inverseBias2: f32,   // 1 / sqrt(1 - beta2^t)
  scale: f32,          // of the gradient
  step: u32,
}

struct Block {
  //:for c {{COLUMNS}}
  v${c}: vec4<f32>,
  //:end
}

struct Moments {
  //:for c {{COLUMNS}}
  v${c}: Packed,
  //:end
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gradient: array<Block>;
@group(0) @binding(2) var<storage, read_write> parameter: array<Block>;
@group(0) @binding(3) var<storage, read_write> first: array<Moments>;
@group(0) @binding(4) var<storage, read_write> second: array<Moments>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  if (i >= p.blocks) {
    return;
  }
  let keep = select(1.0, p.keep, i < p.decayBlocks);
  let gradients = gradient[i];
  let parameters = parameter[i];
  let firsts = first[i + p.skip];
  let seconds = second[i + p.skip];
  //:for c {{COLUMNS}}
  let g${c} = gradients.v${c} * p.scale;
  let m${c} = p.beta1 * unpacked(firsts.v${c}) + p.oneMinusBeta1 * g${c};
  let v${c} = p.beta2 * unpacked(seconds.v${c}) + p.oneMinusBeta2 * g${c} * g${c};
  let x${c} = keep * parameters.v${c} - p.stepSize * m${c} / (sqrt(v${c}) * p.inverseBias2 + p.eps);
  let noise${c} = noiseAt(p.start + (i * {{COLUMNS}}u + ${c}u) * 4u, p.step);
  //:end
  parameter[i] = Block({{PARAMETERS}});
  first[i + p.skip] = Moments({{FIRST}});
  second[i + p.skip] = Moments({{SECOND}});
}
