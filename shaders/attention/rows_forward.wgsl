// Causal attention by online softmax, without barriers. One invocation owns ROWS neighbouring query rows of one head and
// walks the keys COLUMNS at a time. Where subgroups are exactly four invocations (software adapters, where a load costs
// several multiplications), a quad owns neighbouring rows, each of the four loads a quarter of a key or value and gets
// the rest from the others: vectors come in the order lane ^ 0, 1, 2, 3, and so are queries and sums laid out.
// Vector n of a head is named part_swap; VECTOR_ENDS and COLUMN_ENDS close the brackets that a loop opened.
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
@group(0) @binding(2) var<storage, read_write> out: array<Vector>; // [batch * sequence, HEADS * N]
@group(0) @binding(3) var<storage, read_write> logSumExp: array<f32>; // [batch * sequence, HEADS]

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

  // Rows past the end repeat the last one and are not stored. Loads and stores stand in loops: unrolled they take longer
  // to compile than all the rest.
  var q: array<Vector, ROWS * N>;
  for (var n = 0u; n < ROWS * N; n++) {
    q[n] = qkv[(first + min(t + n / N, last)) * STRIDE + head * N + ((n % N) ^ own)] * p.scale;
  }
  //:for r {{ROWS}}
  //:for i {{PARTS}}
  //:for s {{SWAPS}}
  let q_${r}_${i}_${s} = q[${r}u * N + ${i}u * SWAPS + ${s}u];
  var sum_${r}_${i}_${s} = Vector();
  //:end
  //:end
  var highest_${r} = -1e30;
  var total_${r} = 0.0;
  //:end
  for (var j = 0u; j <= end; j += COLUMNS) {
    //:for c {{COLUMNS}}
    let from_${c} = keys + min(j + ${c}u, last) * STRIDE + own;
    //:for i {{PARTS}}
    let k_${c}_${i}_0 = qkv[from_${c} + ${i}u * SWAPS];
    //:for x {{SHARED}}
    let k_${c}_${i}_1 = quadSwapX(k_${c}_${i}_0);
    let k_${c}_${i}_2 = quadSwapY(k_${c}_${i}_0);
    let k_${c}_${i}_3 = quadSwapDiagonal(k_${c}_${i}_0);
    //:end
    //:end
    //:for r {{ROWS}}
    let product_${r}_${c} =
      //:for n {{NAMES}}
      fma(q_${r}_${n}, k_${c}_${n},
      //:end
      Vector(){{VECTOR_ENDS}};
    let score_${r}_${c} = select(-1e30, dot(product_${r}_${c}, Vector(1.0)), j + ${c}u <= t + ${r}u);
    //:end
    //:end
    //:for r {{ROWS}}
    let higher_${r} =
      //:for c {{COLUMNS}}
      max(score_${r}_${c},
      //:end
      highest_${r}{{COLUMN_ENDS}};
    let keep_${r} = exp(highest_${r} - higher_${r});
    highest_${r} = higher_${r};
    //:for c {{COLUMNS}}
    let weight_${r}_${c} = exp(score_${r}_${c} - higher_${r});
    //:end
    total_${r} = fma(total_${r}, keep_${r},
      //:for c {{COLUMNS}}
      weight_${r}_${c} +
      //:end
      0.0);
    //:end
    //:for i {{PARTS}}
    //:for c {{COLUMNS}}
    let v_${c}_${i}_0 = qkv[from_${c} + KV_HEADS * N + ${i}u * SWAPS];
    //:for x {{SHARED}}
    let v_${c}_${i}_1 = quadSwapX(v_${c}_${i}_0);
    let v_${c}_${i}_2 = quadSwapY(v_${c}_${i}_0);
    let v_${c}_${i}_3 = quadSwapDiagonal(v_${c}_${i}_0);
    //:end
    //:end
    //:for s {{SWAPS}}
    //:for r {{ROWS}}
    sum_${r}_${i}_${s} =
      //:for c {{COLUMNS}}
      fma(v_${c}_${i}_${s}, Vector(weight_${r}_${c}),
      //:end
      sum_${r}_${i}_${s} * keep_${r}{{COLUMN_ENDS}};
    //:end
    //:end
    //:end
  }
  var sum: array<Vector, ROWS * N>;
  var part: array<f32, ROWS>;
  //:for r {{ROWS}}
  part[${r}] = 1.0 / total_${r};
  //:for i {{PARTS}}
  //:for s {{SWAPS}}
  sum[${r}u * N + ${i}u * SWAPS + ${s}u] = sum_${r}_${i}_${s};
  //:end
  //:end
  if (t + ${r}u <= last) {
    logSumExp[(first + t + ${r}u) * HEADS + head] = highest_${r} + log(total_${r});
  }
  //:end
  for (var n = 0u; n < ROWS * N; n++) {
    let row = t + n / N;
    if (row <= last) {
      out[((first + row) * HEADS + head) * N + ((n % N) ^ own)] = sum[n] * part[n / N];
    }
  }
}
