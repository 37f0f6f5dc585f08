// dk and dv of causal attention: one invocation owns ROWS neighbouring key rows of one key head and walks the queries
// that see them, COLUMNS at a time, of every query head that shares it, in a fixed order.
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
@group(0) @binding(2) var<storage, read> logSumExp: array<f32>; // [batch * sequence, HEADS]
@group(0) @binding(3) var<storage, read> dOut: array<Vector>; // [batch * sequence, HEADS * N]
@group(0) @binding(4) var<storage, read> rowDots: array<f32>; // [batch * sequence, HEADS]
@group(0) @binding(5) var<storage, read_write> dqkv: array<Vector>; // [batch * sequence, STRIDE]: the k and v columns

@compute @workgroup_size({{GROUP}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * {{GROUP}}u + lane;
  let block = i % p.blocks;
  let kvHead = (i / p.blocks) % KV_HEADS;
  let sequence = i / (p.blocks * KV_HEADS);
  if (sequence >= p.batch) {
    return;
  }
  let first = sequence * p.sequence;
  let j = block * ROWS;
  let last = p.sequence - 1u;

  // Rows past the end repeat the last one and are not stored.
  //:for r {{ROWS}}
  let at_${r} = (first + min(j + ${r}u, last)) * STRIDE + (HEADS + kvHead) * N;
  var dKey_${r}: array<Vector, N>;
  var dValue_${r}: array<Vector, N>;
  //:end
  for (var h = 0u; h < HEADS / KV_HEADS; h++) {
    let head = kvHead * (HEADS / KV_HEADS) + h;
    // Four neighbours start together, so that narrow SIMD units are never half masked.
    for (var t = (block & ~3u) * ROWS; t < p.sequence; t += COLUMNS) {
      //:for c {{COLUMNS}}
      let row_${c} = (first + min(t + ${c}u, last)) * HEADS + head;
      let total_${c} = logSumExp[row_${c}];
      let rowDot_${c} = rowDots[row_${c}];
      let from_${c} = (first + min(t + ${c}u, last)) * STRIDE + head * N;
      //:end
      //:for r {{ROWS}}
      //:for c {{COLUMNS}}
      var product_${r}_${c} = 0.0;
      var dProduct_${r}_${c} = 0.0;
      //:end
      //:end
      for (var n = 0u; n < N; n++) {
        //:for r {{ROWS}}
        let key_${r} = qkv[at_${r} + n];
        let value_${r} = qkv[at_${r} + KV_HEADS * N + n];
        //:end
        //:for c {{COLUMNS}}
        let query_${c} = qkv[from_${c} + n];
        let dOut_${c} = dOut[row_${c} * N + n];
        //:end
        //:for r {{ROWS}}
        //:for c {{COLUMNS}}
        product_${r}_${c} += dot(key_${r}, query_${c});
        dProduct_${r}_${c} += dot(value_${r}, dOut_${c});
        //:end
        //:end
      }
      //:for r {{ROWS}}
      //:for c {{COLUMNS}}
      let seen_${r}_${c} = j + ${r}u <= t + ${c}u && t + ${c}u <= last;
      let weight_${r}_${c} = exp(select(-1e30, product_${r}_${c} * p.scale, seen_${r}_${c}) - total_${c});
      let dScore_${r}_${c} = weight_${r}_${c} * (dProduct_${r}_${c} - rowDot_${c}) * p.scale;
      //:end
      //:end
      for (var n = 0u; n < N; n++) {
        //:for c {{COLUMNS}}
        let query_${c} = qkv[from_${c} + n];
        let dOut_${c} = dOut[row_${c} * N + n];
        //:end
        //:for r {{ROWS}}
        var keyPart_${r} = dKey_${r}[n];
        var valuePart_${r} = dValue_${r}[n];
        //:end
        //:for r {{ROWS}}
        //:for c {{COLUMNS}}
        keyPart_${r} += query_${c} * dScore_${r}_${c};
        valuePart_${r} += dOut_${c} * weight_${r}_${c};
        //:end
        //:end
        //:for r {{ROWS}}
        dKey_${r}[n] = keyPart_${r};
        dValue_${r}[n] = valuePart_${r};
        //:end
      }
    }
  }
  for (var n = 0u; n < N; n++) {
    //:for r {{ROWS}}
    if (j + ${r}u <= last) { dqkv[at_${r} + n] = dKey_${r}[n]; }
    if (j + ${r}u <= last) { dqkv[at_${r} + KV_HEADS * N + n] = dValue_${r}[n]; }
    //:end
  }
}
