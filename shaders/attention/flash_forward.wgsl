// Causal attention in tiles through workgroup memory, after FlashAttention-2 (Dao 2023): a workgroup of 8 x 16 invocations
// owns ROWS query rows of one head and walks the keys 32 at a time. An invocation makes the scores of its {{R}} rows
// (y, y + 16, ...) with its 4 keys (x, x + 8, ...), then sums its rows' output in its vectors (x, x + 8, ...). Heads are
// staged 16 dims at a time for the scores, so that the memory is the same for every head dim.
alias Rows = vec{{R}}<f32>; // something of the invocation's rows
const N = {{VECTORS}}u; // vectors in a head
const SLICES = {{SLICES}}u; // vectors of a head that one invocation owns
const HEADS = {{HEADS}}u;
const KV_HEADS = {{KV_HEADS}}u;
const STRIDE = (HEADS + 2u * KV_HEADS) * N; // vectors in a row of qkv: its q heads, then k, then v
const ROWS = 16u * {{R}}u;
const PART = {{PART}}u; // values staged at a time

struct Params { batch: u32, sequence: u32, tiles: u32 /* ceil(sequence / ROWS) */, scale: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> qkv: array<vec4<f32>>; // [batch * sequence, STRIDE]
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>; // [batch * sequence, HEADS * N]
@group(0) @binding(3) var<storage, read_write> logSumExp: array<f32>; // [batch * sequence, HEADS]

// [4][ROWS + 2] vectors of queries, then [4][34] of keys, the two spread the banks; or [PART][N] values.
const COLUMNS_AT = 4u * (ROWS + 2u);
var<workgroup> staged: array<vec4<f32>, {{STAGED}}>;
// [32][17]: the weights of the rows by key; or [8][16], what the invocations of the rows have to tell each other.
var<workgroup> weights: array<Rows, 544>;

fn mac(a: vec4<f32>, b: vec4<f32>, c: f32) -> f32 { return fma(a.x, b.x, fma(a.y, b.y, fma(a.z, b.z, fma(a.w, b.w, c)))); }

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = group.x + group.y * count.x;
  let head = (i / p.tiles) % HEADS;
  let sequence = i / (p.tiles * HEADS);
  if (sequence >= p.batch) {
    return;
  }
  let x = lane % 8u;
  let y = lane / 8u;
  let first = sequence * p.sequence;
  let last = p.sequence - 1u;
  let t = (p.tiles - 1u - i % p.tiles) * ROWS; // the longest first
  let end = min(t + ROWS - 1u, last);
  let keyAt = (HEADS + head / (HEADS / KV_HEADS)) * N;

  var highest = Rows(-1e30);
  var total = Rows();
  //:for r {{R}}
  //:for m {{SLICES}}
  var sum_${r}_${m} = vec4<f32>();
  //:end
  //:end
  for (var j = 0u; j <= end; j += 32u) {
    //:for c 4
    //:for r {{R}}
    var product_${r}_${c} = 0.0;
    //:end
    //:end
    // Rows past the end repeat the last one: as keys they are masked, as queries not stored. Dims past the end are zero.
    for (var d = 0u; d < N; d += 4u) {
      let n = d + lane % 4u;
      for (var s = lane / 4u; s < ROWS; s += 32u) {
        let query = qkv[(first + min(t + s, last)) * STRIDE + head * N + min(n, N - 1u)];
        staged[lane % 4u * (ROWS + 2u) + s] = select(vec4<f32>(), query, n < N);
      }
      staged[COLUMNS_AT + lane % 4u * 34u + lane / 4u] =
        qkv[(first + min(j + lane / 4u, last)) * STRIDE + keyAt + min(n, N - 1u)];
      workgroupBarrier();
      for (var n = 0u; n < 4u; n++) {
        //:for r {{R}}
        let query_${r} = staged[n * (ROWS + 2u) + y + ${r}u * 16u];
        //:end
        //:for c 4
        let key_${c} = staged[COLUMNS_AT + n * 34u + x + ${c}u * 8u];
        //:for r {{R}}
        product_${r}_${c} = mac(query_${r}, key_${c}, product_${r}_${c});
        //:end
        //:end
      }
      workgroupBarrier();
    }
    let row = Rows(
      //:for r {{R}}
      f32(t + y + ${r}u * 16u),
      //:end
    );
    //:for c 4
    let score_${c} = select(Rows(-1e30), p.scale * Rows(
      //:for r {{R}}
      product_${r}_${c},
      //:end
    ), row >= Rows(f32(j + x + ${c}u * 8u)));
    //:end
    weights[x * 16u + y] = max(max(score_0, score_1), max(score_2, score_3));
    workgroupBarrier();
    var higher = highest;
    for (var s = 0u; s < 8u; s++) {
      higher = max(higher, weights[s * 16u + y]);
    }
    let keep = exp(highest - higher);
    highest = higher;
    total *= keep;
    workgroupBarrier();
    //:for c 4
    let weight_${c} = exp(score_${c} - higher);
    total += weight_${c};
    weights[(x + ${c}u * 8u) * 17u + y] = weight_${c};
    //:end
    //:for r {{R}}
    //:for m {{SLICES}}
    sum_${r}_${m} *= keep[${r}];
    //:end
    //:end
    for (var part = 0u; part < 32u; part += PART) {
      for (var s = lane; s < PART * N; s += 128u) {
        staged[s] = qkv[(first + min(j + part + s / N, last)) * STRIDE + keyAt + KV_HEADS * N + s % N];
      }
      workgroupBarrier();
      for (var s = 0u; s < PART; s++) {
        let weight = weights[(part + s) * 17u + y];
        //:for m {{SLICES}}
        let value_${m} = staged[s * N + min(x + ${m}u * 8u, N - 1u)];
        //:for r {{R}}
        sum_${r}_${m} = fma(value_${m}, vec4<f32>(weight[${r}]), sum_${r}_${m});
        //:end
        //:end
      }
      workgroupBarrier();
    }
  }
  weights[x * 16u + y] = total;
  workgroupBarrier();
  total = weights[y];
  for (var s = 1u; s < 8u; s++) {
    total += weights[s * 16u + y];
  }
  let part = 1.0 / total;
  let logs = highest + log(total);
  //:for r {{R}}
  if (t + y + ${r}u * 16u <= last) {
    let at = (first + t + y + ${r}u * 16u) * HEADS + head;
    if (x == 0u) { logSumExp[at] = logs[${r}]; }
    //:for m {{SLICES}}
    if (x + ${m}u * 8u < N) { out[at * N + x + ${m}u * 8u] = sum_${r}_${m} * part[${r}]; }
    //:end
  }
  //:end
}
