// dk and dv of causal attention without barriers: one invocation owns ROWS neighbouring key rows of one key head and
// walks the queries that see them, COLUMNS at a time, of every query head that shares it, in a fixed order. Quads share
// their loads as in rows_forward.wgsl.
{{ENABLE}}
alias Vector = {{VECTOR}};
const SWAPS = {{SWAPS}}u; // invocations that share their loads: 4 or 1
const N = {{PARTS}}u * SWAPS; // vectors in a head
const HEADS = {{HEADS}}u;
const KV_HEADS = {{KV_HEADS}}u;
const STRIDE = (HEADS + 2u * KV_HEADS) * N; // vectors in a row of qkv: its q heads, then k, then v
const ROWS = {{ROWS}}u;
const COLUMNS = {{COLUMNS}}u;

struct Params {
  batch: u32,
  sequence: u32,
  quads: u32, // ceil(sequence / (4 * ROWS))
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
        @builtin({{LANE}}) lane: u32) {
  let i = {{QUAD}};
  let quad = i % p.quads;
  let kvHead = (i / p.quads) % KV_HEADS;
  let sequence = i / (p.quads * KV_HEADS);
  if (sequence >= p.batch) {
    return;
  }
  let first = sequence * p.sequence;
  let last = p.sequence - 1u;
  let start = quad * 4u * ROWS; // the first query that sees a row of the four
  let j = start + lane % 4u * ROWS;
  let own = lane % SWAPS;

  // Rows past the end repeat the last one and are not stored.
  var keys: array<Vector, ROWS * N>;
  var values: array<Vector, ROWS * N>;
  for (var n = 0u; n < ROWS * N; n++) {
    let at = (first + min(j + n / N, last)) * STRIDE + (HEADS + kvHead) * N + ((n % N) ^ own);
    keys[n] = qkv[at] * p.scale;
    values[n] = qkv[at + KV_HEADS * N];
  }
  //:for r {{ROWS}}
  //:for i {{PARTS}}
  //:for s {{SWAPS}}
  let k_${r}_${i}_${s} = keys[${r}u * N + ${i}u * SWAPS + ${s}u];
  let v_${r}_${i}_${s} = values[${r}u * N + ${i}u * SWAPS + ${s}u];
  var dk_${r}_${i}_${s} = Vector();
  var dv_${r}_${i}_${s} = Vector();
  //:end
  //:end
  //:end
  for (var h = 0u; h < HEADS / KV_HEADS; h++) {
    let head = kvHead * (HEADS / KV_HEADS) + h;
    for (var t = start; t <= last; t += COLUMNS) {
      //:for c {{COLUMNS}}
      let row_${c} = first + min(t + ${c}u, last);
      let total_${c} = logSumExp[row_${c} * HEADS + head];
      let rowDot_${c} = rowDots[row_${c} * HEADS + head];
      //:for i {{PARTS}}
      let q_${c}_${i}_0 = qkv[row_${c} * STRIDE + head * N + own + ${i}u * SWAPS];
      let dOut_${c}_${i}_0 = dOut[(row_${c} * HEADS + head) * N + own + ${i}u * SWAPS];
      //:for x {{SHARED}}
      let q_${c}_${i}_1 = quadSwapX(q_${c}_${i}_0);
      let q_${c}_${i}_2 = quadSwapY(q_${c}_${i}_0);
      let q_${c}_${i}_3 = quadSwapDiagonal(q_${c}_${i}_0);
      let dOut_${c}_${i}_1 = quadSwapX(dOut_${c}_${i}_0);
      let dOut_${c}_${i}_2 = quadSwapY(dOut_${c}_${i}_0);
      let dOut_${c}_${i}_3 = quadSwapDiagonal(dOut_${c}_${i}_0);
      //:end
      //:end
      //:for r {{ROWS}}
      let product_${r}_${c} =
        //:for n {{NAMES}}
        fma(k_${r}_${n}, q_${c}_${n},
        //:end
        Vector(){{VECTOR_ENDS}};
      let dProduct_${r}_${c} =
        //:for n {{NAMES}}
        fma(v_${r}_${n}, dOut_${c}_${n},
        //:end
        Vector(){{VECTOR_ENDS}};
      let seen_${r}_${c} = j + ${r}u <= t + ${c}u && t + ${c}u <= last;
      let score_${r}_${c} = select(-1e30, dot(product_${r}_${c}, Vector(1.0)), seen_${r}_${c});
      let weight_${r}_${c} = exp(score_${r}_${c} - total_${c});
      let dScore_${r}_${c} = weight_${r}_${c} * (dot(dProduct_${r}_${c}, Vector(1.0)) - rowDot_${c});
      //:end
      //:end
      //:for r {{ROWS}}
      //:for i {{PARTS}}
      //:for s {{SWAPS}}
      dk_${r}_${i}_${s} =
        //:for c {{COLUMNS}}
        fma(q_${c}_${i}_${s}, Vector(dScore_${r}_${c}),
        //:end
        dk_${r}_${i}_${s}{{COLUMN_ENDS}};
      dv_${r}_${i}_${s} =
        //:for c {{COLUMNS}}
        fma(dOut_${c}_${i}_${s}, Vector(weight_${r}_${c}),
        //:end
        dv_${r}_${i}_${s}{{COLUMN_ENDS}};
      //:end
      //:end
      //:end
    }
  }
  //:for r {{ROWS}}
  //:for i {{PARTS}}
  //:for s {{SWAPS}}
  keys[${r}u * N + ${i}u * SWAPS + ${s}u] = dk_${r}_${i}_${s} * p.scale;
  values[${r}u * N + ${i}u * SWAPS + ${s}u] = dv_${r}_${i}_${s};
  //:end
  //:end
  //:end
  for (var n = 0u; n < ROWS * N; n++) {
    let row = j + n / N;
    if (row <= last) {
      let at = (first + row) * STRIDE + (HEADS + kvHead) * N + ((n % N) ^ own);
      dqkv[at] = keys[n];
      dqkv[at + KV_HEADS * N] = values[n];
    }
  }
}
