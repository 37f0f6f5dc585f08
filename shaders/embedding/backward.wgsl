// tableGradient[token] += sum of dOut over the positions of the token. One invocation owns one vector of one distinct
// token's row and walks that token's positions in order: no two write to one place, so no atomics are needed.
alias Vector = {{VECTOR}};
const VECTORS = {{VECTORS}}u; // vectors in a row

struct Params {
  distinct: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> segments: array<u32>; // (token, first, end) each, then the positions
@group(0) @binding(2) var<storage, read> dOut: array<Vector>;
@group(0) @binding(3) var<storage, read_write> tableGradient: array<Vector>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  let segment = i / VECTORS;
  if (segment >= p.distinct) {
    return;
  }
  let column = i % VECTORS;
  var sum = Vector(0);
  let end = segments[3u * segment + 2u];
  for (var place = segments[3u * segment + 1u]; place < end; place++) {
    sum += dOut[segments[place] * VECTORS + column];
  }
  let target_ = segments[3u * segment] * VECTORS + column;
  tableGradient[target_] += sum;
}
