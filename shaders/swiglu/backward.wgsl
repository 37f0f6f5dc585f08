// dGate = dy * up * s * (1 + gate * (1 - s)), dUp = dy * gate * s, with s = 1 / (1 + exp(-gate)).
struct Params {
  vectors: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gate: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> up: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dGate: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> dUp: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  if (i < p.vectors) {
    let g = gate[i];
    let s = 1.0 / (1.0 + exp(min(-g, vec4<f32>(80.0))));
    dGate[i] = dy[i] * up[i] * s * (1.0 + g * (1.0 - s));
    dUp[i] = dy[i] * g * s;
  }
}
