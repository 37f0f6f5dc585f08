// logits = (exp(logits - logSumExp) - onehot(target)) * scale, in place. LANES invocations share a row.
const LANES = {{LANES}}u;

struct Params {
  firstRow: u32,
  rows: u32,
  firstColumn: u32,
  columns: u32,
  stride: u32, // columns and padding, which becomes zero
  scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> targets: array<u32>; // from row 0 of the microbatch
@group(0) @binding(2) var<storage, read> logSumExp: array<f32>; // from row 0 of the microbatch
@group(0) @binding(3) var<storage, read_write> logits: array<f32>; // [rows, stride]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  let row = i / LANES;
  if (row >= p.rows) {
    return;
  }
  let wanted = targets[p.firstRow + row] - p.firstColumn; // wraps past every column if it lies in another chunk
  let total = logSumExp[p.firstRow + row];
  let line = row * p.stride;
  for (var c = i % LANES; c < p.stride; c += LANES) {
    let hit = select(0.0, 1.0, c == wanted);
    let d = (exp(min(logits[line + c] - total, 0.0)) - hit) * p.scale;
    logits[line + c] = select(0.0, d, c < p.columns);
  }
}
