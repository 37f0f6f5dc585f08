// dk and dv of causal attention: one invocation owns one key row of one key head and walks the queries that see it, of
// every query head that shares it, in a fixed order.
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
@group(0) @binding(4) var<storage, read> logSumExp: array<f32>; // [batch * sequence, HEADS]
@group(0) @binding(5) var<storage, read> dOut: array<Vector>;
@group(0) @binding(6) var<storage, read> rowDots: array<f32>; // [batch * sequence, HEADS]
@group(0) @binding(7) var<storage, read_write> dk: array<Vector>;
@group(0) @binding(8) var<storage, read_write> dv: array<Vector>;

@compute @workgroup_size({{GROUP}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * {{GROUP}}u + lane;
  let j = i % p.sequence;
  let kvHead = (i / p.sequence) % KV_HEADS;
  let sequence = i / (p.sequence * KV_HEADS);
  if (sequence >= p.batch) {
    return;
  }
  let first = sequence * p.sequence;
  let key = ((first + j) * KV_HEADS + kvHead) * N;

  var mine: array<Vector, N>;
  var value: array<Vector, N>;
  var dMine: array<Vector, N>;
  var dValue: array<Vector, N>;
  for (var c = 0u; c < N; c++) {
    mine[c] = k[key + c] * p.scale;
    value[c] = v[key + c];
  }
  for (var h = 0u; h < HEADS / KV_HEADS; h++) {
    let head = kvHead * (HEADS / KV_HEADS) + h;
    for (var t = j; t < p.sequence; t++) {
      let row = (first + t) * HEADS + head;
      let query = row * N;
      var scores = Vector(0);
      var weights = Vector(0);
      for (var c = 0u; c < N; c++) {
        scores += mine[c] * q[query + c];
        weights += value[c] * dOut[query + c];
      }
      let probability = exp(dot(scores, Vector(1)) - logSumExp[row]);
      let dScore = probability * (dot(weights, Vector(1)) - rowDots[row]) * p.scale;
      for (var c = 0u; c < N; c++) {
        dMine[c] += q[query + c] * dScore;
        dValue[c] += dOut[query + c] * probability;
      }
    }
  }
  for (var c = 0u; c < N; c++) {
    dk[key + c] = dMine[c];
    dv[key + c] = dValue[c];
  }
}
