// Causal attention by online softmax: one invocation owns one query row of one head and keeps it, and its output, in
// registers while it walks the keys; neighbours walk the same keys, so loads are shared.
alias Vector = {{VECTOR}};
const N = {{VECTORS}}u; // vectors in a head
const HEADS = {{HEADS}}u;
const KV_HEADS = {{KV_HEADS}}u;

struct Params {
  batch: u32,
  sequence: u32,
  scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<Vector>; // [batch * sequence, HEADS * N]
@group(0) @binding(2) var<storage, read> k: array<Vector>; // [batch * sequence, KV_HEADS * N]
@group(0) @binding(3) var<storage, read> v: array<Vector>;
@group(0) @binding(4) var<storage, read_write> out: array<Vector>;
@group(0) @binding(5) var<storage, read_write> logSumExp: array<f32>; // [batch * sequence, HEADS]

@compute @workgroup_size({{GROUP}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * {{GROUP}}u + lane;
  let t = i % p.sequence;
  let head = (i / p.sequence) % HEADS;
  let sequence = i / (p.sequence * HEADS);
  if (sequence >= p.batch) {
    return;
  }
  let row = sequence * p.sequence + t;
  let query = (row * HEADS + head) * N;
  let keys = sequence * p.sequence * KV_HEADS * N + head / (HEADS / KV_HEADS) * N;

  var mine: array<Vector, N>;
  var sum: array<Vector, N>;
  for (var c = 0u; c < N; c++) {
    mine[c] = q[query + c] * p.scale;
  }
  var highest = -1e30;
  var total = 0.0;
  for (var j = 0u; j <= t; j++) {
    let key = keys + j * (KV_HEADS * N);
    var dots = Vector(0);
    for (var c = 0u; c < N; c++) {
      dots += mine[c] * k[key + c];
    }
    let score = dot(dots, Vector(1));
    let higher = max(highest, score);
    let keep = exp(highest - higher);
    let weight = exp(score - higher);
    highest = higher;
    total = total * keep + weight;
    for (var c = 0u; c < N; c++) {
      sum[c] = sum[c] * keep + v[key + c] * weight;
    }
  }
  for (var c = 0u; c < N; c++) {
    out[query + c] = sum[c] / total;
  }
  logSumExp[row * HEADS + head] = highest + log(total);
}
