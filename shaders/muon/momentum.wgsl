// Muon's direction before it is made orthogonal: the gradient enters the momentum, Nesterov's step looks one further.
// Also the first pass of its Frobenius norm: partial[i] sums blocks i, i + partials, … in this order.
// Comes after moments_f32 or moments_bf16; blocks are vec4s, `*Skip` counts blocks of a binding before the matrix.
struct Params {
  length: u32,        // elements of the matrix
  partials: u32,
  gradientSkip: u32,
  momentSkip: u32,
  start: u32,         // the matrix's first element, counted in the flat vector
  momentum: f32,
  oneMinusMomentum: f32,
  scale: f32,         // of the gradient
  step: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gradient: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> moment: array<Packed>;
@group(0) @binding(3) var<storage, read_write> direction: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= p.partials) {
    return;
  }
  var sum = 0.0;
  for (var i = id.x; i * 4u < p.length; i += p.partials) {
    let g = gradient[i + p.gradientSkip] * p.scale;
    let m = p.momentum * unpacked(moment[i + p.momentSkip]) + p.oneMinusMomentum * g;
    moment[i + p.momentSkip] = packedLow(m, noiseAt(p.start + i * 4u, p.step));
    // What lies behind the matrix may be anything.
    let inside = vec4<u32>(i * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.length);
    let d = select(vec4<f32>(0.0), p.oneMinusMomentum * g + p.momentum * m, inside);
    direction[i] = d;
    sum += dot(d, d);
  }
  partial[id.x] = sum;
}
