// The first columns of each row of `target_` take factor times those of `source` on top. Rows may be of different lengths.
struct Params {
  rows: u32,
  columns: u32, // that are added
  sourceStride: u32,
  targetStride: u32,
  factor: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> source: array<f32>;
@group(0) @binding(2) var<storage, read_write> target_: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  let row = i / p.columns;
  if (row < p.rows) {
    let column = i % p.columns;
    target_[row * p.targetStride + column] += p.factor * source[row * p.sourceStride + column];
  }
}
