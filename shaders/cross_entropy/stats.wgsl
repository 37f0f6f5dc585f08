// Online softmax statistics (Milakov & Gimelshein 2018) of one chunk of the vocabulary, folded into those before it.
// LANES invocations share a row and each keeps its own maximum and sum: no barrier; finish.wgsl joins them.
const LANES = {{LANES}}u;

struct Params {
  firstRow: u32,
  rows: u32,
  firstColumn: u32,
  columns: u32,
  stride: u32, // columns and padding
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>; // [rows, stride]
@group(0) @binding(2) var<storage, read> targets: array<u32>; // from row 0 of the microbatch
@group(0) @binding(3) var<storage, read_write> partials: array<vec2<f32>>; // [rows, LANES + 1]: (max, sum); (target logit, 0)

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  let row = i / LANES;
  if (row >= p.rows) {
    return;
  }
  let first = i % LANES;
  let slot = row * (LANES + 1u);
  var best = -1e30;
  var sum = 0.0;
  if (p.firstColumn > 0u) {
    let before = partials[slot + first];
    best = before.x;
    sum = before.y;
  }
  let line = row * p.stride;
  var highest = best;
  for (var c = first; c < p.columns; c += LANES) {
    highest = max(highest, logits[line + c]);
  }
  sum *= exp(best - highest);
  for (var c = first; c < p.columns; c += LANES) {
    sum += exp(logits[line + c] - highest);
  }
  partials[slot + first] = vec2<f32>(highest, sum);
  let wanted = targets[p.firstRow + row];
  if (first == 0u && wanted >= p.firstColumn && wanted < p.firstColumn + p.columns) {
    partials[slot + LANES] = vec2<f32>(logits[line + wanted - p.firstColumn], 0.0);
  }
}
