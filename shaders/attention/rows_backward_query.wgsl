// dq of causal attention: one invocation owns ROWS neighbouring query rows of one head, makes their probabilities again
// from the log-sum-exp, COLUMNS keys at a time, and leaves rowDots = sum(dOut * out), which is the mean of dP under P,
// for the key pass.
alias Vector = {{VECTOR}};
const N = {{VECTORS}}u; // vectors in a head
const HEADS = {{HEADS}}u;
const KV_HEADS = {{KV_HEADS}}u;
const STRIDE = (HEADS + 2u * KV_HEADS) * N; // vectors in a row of qkv: its q heads, then k, then v
const ROWS = {{ROWS}}u;
const COLUMNS = {{COLUMNS}}u;

struct Params {
  batch: u32,
  sequence: u32,
  blocks: u32, // ceil(sequence / ROWS)
  scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> qkv: array<Vector>; // [batch * sequence, STRIDE]
@group(0) @binding(2) var<storage, read> out: array<Vector>; // [batch * sequence, HEADS * N]
@group(0) @binding(3) var<storage, read> logSumExp: array<f32>; // [batch * sequence, HEADS]
@group(0) @binding(4) var<storage, read> dOut: array<Vector>;
@group(0) @binding(5) var<storage, read_write> rowDots: array<f32>; // [batch * sequence, HEADS]
@group(0) @binding(6) var<storage, read_write> dqkv: array<Vector>; // [batch * sequence, STRIDE]: the q columns

@compute @workgroup_size({{GROUP}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * {{GROUP}}u + lane;
  let block = i % p.blocks;
  let head = (i / p.blocks) % HEADS;
  let sequence = i / (p.blocks * HEADS);
  if (sequence >= p.batch) {
    return;
  }
  let first = sequence * p.sequence;
  let keys = first * STRIDE + (HEADS + head / (HEADS / KV_HEADS)) * N;
  let t = block * ROWS;
  let last = p.sequence - 1u;
  // Four neighbours walk equally far, so that narrow SIMD units are never half masked.
  let end = min((block | 3u) * ROWS + ROWS - 1u, last);

  // Rows past the end repeat the last one and are not stored.
  //:for r {{ROWS}}
  let row_${r} = (first + min(t + ${r}u, last)) * HEADS + head;
  let at_${r} = row_${r} * N;
  let query_${r} = (first + min(t + ${r}u, last)) * STRIDE + head * N;
  let total_${r} = logSumExp[row_${r}];
  var rowDot_${r} = 0.0;
  //:end
  for (var n = 0u; n < N; n++) {
    //:for r {{ROWS}}
    rowDot_${r} += dot(dOut[at_${r} + n], out[at_${r} + n]);
    //:end
  }
  //:for r {{ROWS}}
  var sum_${r}: array<Vector, N>;
  //:end
  for (var j = 0u; j <= end; j += COLUMNS) {
    //:for c {{COLUMNS}}
    let from_${c} = keys + min(j + ${c}u, last) * STRIDE;
    //:end
    //:for r {{ROWS}}
    //:for c {{COLUMNS}}
    var product_${r}_${c} = 0.0;
    var dProduct_${r}_${c} = 0.0;
    //:end
    //:end
    for (var n = 0u; n < N; n++) {
      //:for r {{ROWS}}
      let x_${r} = qkv[query_${r} + n];
      let dOut_${r} = dOut[at_${r} + n];
      //:end
      //:for c {{COLUMNS}}
      let key_${c} = qkv[from_${c} + n];
      let value_${c} = qkv[from_${c} + KV_HEADS * N + n];
      //:end
      //:for r {{ROWS}}
      //:for c {{COLUMNS}}
      product_${r}_${c} += dot(x_${r}, key_${c});
      dProduct_${r}_${c} += dot(dOut_${r}, value_${c});
      //:end
      //:end
    }
    //:for r {{ROWS}}
    //:for c {{COLUMNS}}
    let score_${r}_${c} = select(-1e30, product_${r}_${c} * p.scale, j + ${c}u <= t + ${r}u);
    let dScore_${r}_${c} = exp(score_${r}_${c} - total_${r}) * (dProduct_${r}_${c} - rowDot_${r}) * p.scale;
    //:end
    //:end
    for (var n = 0u; n < N; n++) {
      //:for c {{COLUMNS}}
      let key_${c} = qkv[from_${c} + n];
      //:end
      //:for r {{ROWS}}
      var part_${r} = sum_${r}[n];
      //:end
      //:for r {{ROWS}}
      //:for c {{COLUMNS}}
      part_${r} += key_${c} * dScore_${r}_${c};
      //:end
      //:end
      //:for r {{ROWS}}
      sum_${r}[n] = part_${r};
      //:end
    }
  }
  //:for r {{ROWS}}
  if (t + ${r}u <= last) { rowDots[row_${r}] = rowDot_${r}; }
  //:end
  for (var n = 0u; n < N; n++) {
    //:for r {{ROWS}}
    if (t + ${r}u <= last) { dqkv[query_${r} + n] = sum_${r}[n]; }
    //:end
  }
}
