// stream[row, c] += factor * E[tokens[row], c]: the rows of a table of standard normals that is never stored but counted anew, and is the
// same to the last bit on every device, since nothing in E is rounded. One invocation an element.
struct Params {
  rows: u32,
  columns: u32,
  seed: u32,
  factor: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> tokens: array<u32>;
@group(0) @binding(2) var<storage, read_write> stream: array<f32>;

// pcg4d (Jarzynski & Olano 2020, "Hash functions for GPU rendering").
fn pcg4d(key: vec4<u32>) -> vec4<u32> {
  var v = key * 1664525u + 1013904223u;
  v.x += v.y * v.w;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  v.w += v.y * v.z;
  v ^= v >> vec4<u32>(16u);
  v.x += v.y * v.w;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  v.w += v.y * v.z;
  return v;
}

// Irwin-Hall: twelve uniform bytes have the variance of 256 units, and their sum is all but normal.
fn normalAt(token: u32, column: u32) -> f32 {
  let words = pcg4d(vec4<u32>(token, column, p.seed, 0x45u));
  let pairs = (words & vec4<u32>(0x00ff00ffu)) + ((words >> vec4<u32>(8u)) & vec4<u32>(0x00ff00ffu));
  let sum = pairs.x + pairs.y + pairs.z;
  return (f32((sum & 0xffffu) + (sum >> 16u)) - 1530.0) / 256.0;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  if (i < p.rows * p.columns) {
    stream[i] += p.factor * normalAt(tokens[i / p.columns], i % p.columns);
  }
}
