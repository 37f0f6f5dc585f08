// Joins a row's lanes: logSumExp = max + log(sum), loss = logSumExp - target logit. One invocation a row.
const LANES = {{LANES}}u;

struct Params {
  firstRow: u32,
  rows: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> partials: array<vec2<f32>>; // [rows, LANES + 1]
@group(0) @binding(2) var<storage, read_write> logSumExp: array<f32>;
@group(0) @binding(3) var<storage, read_write> losses: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let row = (group.x + group.y * count.x) * 64u + lane;
  if (row >= p.rows) {
    return;
  }
  let slot = row * (LANES + 1u);
  var highest = -1e30;
  for (var l = 0u; l < LANES; l++) {
    highest = max(highest, partials[slot + l].x);
  }
  var sum = 0.0;
  for (var l = 0u; l < LANES; l++) {
    let part = partials[slot + l];
    sum += part.y * exp(part.x - highest);
  }
  let total = highest + log(sum);
  logSumExp[p.firstRow + row] = total;
  losses[p.firstRow + row] = total - partials[slot + LANES].x;
}
