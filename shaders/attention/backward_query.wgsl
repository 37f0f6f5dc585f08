// dq of causal attention: one invocation owns one query row of one head, makes its probabilities again from the
// log-sum-exp, and leaves rowDots = sum(dOut * out), which is the mean of dP under P, for the key pass.
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
@group(0) @binding(4) var<storage, read> out: array<Vector>;
@group(0) @binding(5) var<storage, read> logSumExp: array<f32>; // [batch * sequence, HEADS]
@group(0) @binding(6) var<storage, read> dOut: array<Vector>;
@group(0) @binding(7) var<storage, read_write> rowDots: array<f32>; // [batch * sequence, HEADS]
@group(0) @binding(8) var<storage, read_write> dq: array<Vector>;

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
  var dMine: array<Vector, N>;
  var sum: array<Vector, N>;
  var rowDot = 0.0;
  for (var c = 0u; c < N; c++) {
    mine[c] = q[query + c] * p.scale;
    dMine[c] = dOut[query + c];
    rowDot += dot(dMine[c], out[query + c]);
  }
  rowDots[row * HEADS + head] = rowDot;
  let total = logSumExp[row * HEADS + head];
  for (var j = 0u; j <= t; j++) {
    let key = keys + j * (KV_HEADS * N);
    var scores = Vector(0);
    var weights = Vector(0);
    for (var c = 0u; c < N; c++) {
      scores += mine[c] * k[key + c];
      weights += dMine[c] * v[key + c];
    }
    let dScore = exp(dot(scores, Vector(1)) - total) * (dot(weights, Vector(1)) - rowDot) * p.scale;
    for (var c = 0u; c < N; c++) {
      sum[c] += k[key + c] * dScore;
    }
  }
  for (var c = 0u; c < N; c++) {
    dq[query + c] = sum[c];
  }
}
