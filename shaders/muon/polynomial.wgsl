// square = a·I + b·gram + c·square over [side, side], a vec4 an invocation: what the Newton-Schulz iterate is multiplied by.
struct Params {
  side: u32,
  a: f32,
  b: f32,
  c: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gram: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> square: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  if (i * 4u >= p.side * p.side) {
    return;
  }
  // The diagonal's elements are the multiples of side + 1.
  let element = vec4<u32>(i * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
  let diagonal = element % vec4<u32>(p.side + 1u) == vec4<u32>(0u);
  square[i] = select(vec4<f32>(0.0), vec4<f32>(p.a), diagonal) + p.b * gram[i] + p.c * square[i];
}
