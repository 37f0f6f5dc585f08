// out = silu(gate) * up, silu(g) = g / (1 + exp(-g)) (Shazeer 2020); four elements at a time.
struct Params {
  vectors: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gate: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> up: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  if (i < p.vectors) {
    let g = gate[i];
    // Past 80 the exponential would leave f32's range, and infinities are not to be relied on.
    out[i] = g / (1.0 + exp(min(-g, vec4<f32>(80.0)))) * up[i];
  }
}
