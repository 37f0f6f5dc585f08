// dq of causal attention without barriers: one invocation owns ROWS neighbouring query rows of one head, makes their
// probabilities again from the log-sum-exp, COLUMNS keys at a time, and leaves rowDots = sum(dOut * out), which is the
// mean of dP under P, for the key pass. Quads share their loads as in rows_forward.wgsl.
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
@group(0) @binding(2) var<storage, read> out: array<Vector>; // [batch * sequence, HEADS * N]
@group(0) @binding(3) var<storage, read> logSumExp: array<f32>; // [batch * sequence, HEADS]
@group(0) @binding(4) var<storage, read> dOut: array<Vector>;
@group(0) @binding(5) var<storage, read_write> rowDots: array<f32>; // [batch * sequence, HEADS]
@group(0) @binding(6) var<storage, read_write> dqkv: array<Vector>; // [batch * sequence, STRIDE]: the q columns

@compute @workgroup_size({{GROUP}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin({{LANE}}) lane: u32) {
  let i = {{QUAD}};
  let quad = i % p.quads;
  let head = (i / p.quads) % HEADS;
  let sequence = i / (p.quads * HEADS);
  if (sequence >= p.batch) {
    return;
  }
  let first = sequence * p.sequence;
  let last = p.sequence - 1u;
  let keys = first * STRIDE + (HEADS + head / (HEADS / KV_HEADS)) * N;
  let t = (quad * 4u + lane % 4u) * ROWS;
  // The four walk equally far: their last row's keys.
  let end = min((quad + 1u) * 4u * ROWS - 1u, last);
  let own = lane % SWAPS;

  // Rows past the end repeat the last one and are not stored.
  var queries: array<Vector, ROWS * N>;
  var dOuts: array<Vector, ROWS * N>;
  var totals: array<f32, ROWS>;
  var dots: array<f32, ROWS>;
  for (var r = 0u; r < ROWS; r++) {
    let row = first + min(t + r, last);
    var rowDot = 0.0;
    for (var n = 0u; n < N; n++) {
      let at = n ^ own;
      let gradient = dOut[(row * HEADS + head) * N + at];
      queries[r * N + n] = qkv[row * STRIDE + head * N + at] * p.scale;
      dOuts[r * N + n] = gradient;
      rowDot += dot(gradient, out[(row * HEADS + head) * N + at]);
    }
    totals[r] = logSumExp[row * HEADS + head];
    dots[r] = rowDot;
    if (t + r <= last) {
      rowDots[row * HEADS + head] = rowDot;
    }
  }
  //:for r {{ROWS}}
  let total_${r} = totals[${r}];
  let rowDot_${r} = dots[${r}];
  //:for i {{PARTS}}
  //:for s {{SWAPS}}
  let q_${r}_${i}_${s} = queries[${r}u * N + ${i}u * SWAPS + ${s}u];
  let dOut_${r}_${i}_${s} = dOuts[${r}u * N + ${i}u * SWAPS + ${s}u];
  var sum_${r}_${i}_${s} = Vector();
  //:end
  //:end
  //:end
  for (var j = 0u; j <= end; j += COLUMNS) {
    //:for c {{COLUMNS}}
    let from_${c} = keys + min(j + ${c}u, last) * STRIDE + own;
    //:for i {{PARTS}}
    let k_${c}_${i}_0 = qkv[from_${c} + ${i}u * SWAPS];
    let v_${c}_${i}_0 = qkv[from_${c} + KV_HEADS * N + ${i}u * SWAPS];
    //:for x {{SHARED}}
    let k_${c}_${i}_1 = quadSwapX(k_${c}_${i}_0);
    let k_${c}_${i}_2 = quadSwapY(k_${c}_${i}_0);
    let k_${c}_${i}_3 = quadSwapDiagonal(k_${c}_${i}_0);
    let v_${c}_${i}_1 = quadSwapX(v_${c}_${i}_0);
    let v_${c}_${i}_2 = quadSwapY(v_${c}_${i}_0);
    let v_${c}_${i}_3 = quadSwapDiagonal(v_${c}_${i}_0);
    //:end
    //:end
    //:for r {{ROWS}}
    let product_${r}_${c} =
      //:for n {{NAMES}}
      fma(q_${r}_${n}, k_${c}_${n},
      //:end
      Vector(){{VECTOR_ENDS}};
    let dProduct_${r}_${c} =
      //:for n {{NAMES}}
      fma(dOut_${r}_${n}, v_${c}_${n},
      //:end
      Vector(){{VECTOR_ENDS}};
    let score_${r}_${c} = select(-1e30, dot(product_${r}_${c}, Vector(1.0)), j + ${c}u <= t + ${r}u);
    let dScore_${r}_${c} = exp(score_${r}_${c} - total_${r}) * (dot(dProduct_${r}_${c}, Vector(1.0)) - rowDot_${r});
    //:end
    //:end
    //:for r {{ROWS}}
    //:for i {{PARTS}}
    //:for s {{SWAPS}}
    sum_${r}_${i}_${s} =
      //:for c {{COLUMNS}}
      fma(k_${c}_${i}_${s}, Vector(dScore_${r}_${c}),
      //:end
      sum_${r}_${i}_${s}{{COLUMN_ENDS}};
    //:end
    //:end
    //:end
  }
  //:for r {{ROWS}}
  //:for i {{PARTS}}
  //:for s {{SWAPS}}
  queries[${r}u * N + ${i}u * SWAPS + ${s}u] = sum_${r}_${i}_${s} * p.scale;
  //:end
  //:end
  //:end
  for (var n = 0u; n < ROWS * N; n++) {
    let row = t + n / N;
    if (row <= last) {
      dqkv[(first + row) * STRIDE + head * N + ((n % N) ^ own)] = queries[n];
    }
  }
}
