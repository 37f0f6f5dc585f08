// Causal attention by online softmax. One invocation owns ROWS neighbouring query rows of one head and walks the keys
// COLUMNS at a time, so that each load serves several products.
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
@group(0) @binding(2) var<storage, read_write> out: array<Vector>; // [batch * sequence, HEADS * N]
@group(0) @binding(3) var<storage, read_write> logSumExp: array<f32>; // [batch * sequence, HEADS]

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
  let row_${r} = first + min(t + ${r}u, last);
  let at_${r} = row_${r} * STRIDE + head * N;
  var sum_${r}: array<Vector, N>;
  var highest_${r} = -1e30;
  var total_${r} = 0.0;
  //:end
  for (var j = 0u; j <= end; j += COLUMNS) {
    //:for c {{COLUMNS}}
    let from_${c} = keys + min(j + ${c}u, last) * STRIDE;
    //:end
    //:for r {{ROWS}}
    //:for c {{COLUMNS}}
    var product_${r}_${c} = 0.0;
    //:end
    //:end
    for (var n = 0u; n < N; n++) {
      //:for r {{ROWS}}
      let query_${r} = qkv[at_${r} + n];
      //:end
      //:for c {{COLUMNS}}
      let key_${c} = qkv[from_${c} + n];
      //:end
      //:for r {{ROWS}}
      //:for c {{COLUMNS}}
      product_${r}_${c} += dot(query_${r}, key_${c});
      //:end
      //:end
    }
    //:for r {{ROWS}}
    //:for c {{COLUMNS}}
    let score_${r}_${c} = select(-1e30, product_${r}_${c} * p.scale, j + ${c}u <= t + ${r}u);
    //:end
    //:end
    //:for r {{ROWS}}
    var higher_${r} = highest_${r};
    //:end
    //:for r {{ROWS}}
    //:for c {{COLUMNS}}
    higher_${r} = max(higher_${r}, score_${r}_${c});
    //:end
    //:end
    //:for r {{ROWS}}
    let keep_${r} = exp(highest_${r} - higher_${r});
    //:end
    //:for r {{ROWS}}
    //:for c {{COLUMNS}}
    let weight_${r}_${c} = exp(score_${r}_${c} - higher_${r});
    //:end
    //:end
    //:for r {{ROWS}}
    highest_${r} = higher_${r};
    total_${r} *= keep_${r};
    //:end
    //:for r {{ROWS}}
    //:for c {{COLUMNS}}
    total_${r} += weight_${r}_${c};
    //:end
    //:end
    for (var n = 0u; n < N; n++) {
      //:for c {{COLUMNS}}
      let value_${c} = qkv[from_${c} + KV_HEADS * N + n];
      //:end
      //:for r {{ROWS}}
      var part_${r} = sum_${r}[n] * keep_${r};
      //:end
      //:for r {{ROWS}}
      //:for c {{COLUMNS}}
      part_${r} += value_${c} * weight_${r}_${c};
      //:end
      //:end
      //:for r {{ROWS}}
      sum_${r}[n] = part_${r};
      //:end
    }
  }
  //:for r {{ROWS}}
  if (t + ${r}u <= last) { logSumExp[row_${r} * HEADS + head] = highest_${r} + log(total_${r}); }
  //:end
  for (var n = 0u; n < N; n++) {
    //:for r {{ROWS}}
    if (t + ${r}u <= last) { out[(row_${r} * HEADS + head) * N + n] = sum_${r}[n] / total_${r}; }
    //:end
  }
}
