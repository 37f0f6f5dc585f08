// dq of causal attention in tiles: the layout of flash_forward.wgsl. A workgroup owns ROWS query rows of one head, makes
// their probabilities again from the log-sum-exp, 32 keys at a time, and leaves rowDots = sum(dOut * out), which is the
// mean of dP under P, for the key pass.
alias Rows = vec{{R}}<f32>; // something of the invocation's rows
const N = {{VECTORS}}u; // vectors in a head
const HEADS = {{HEADS}}u;
const KV_HEADS = {{KV_HEADS}}u;
const STRIDE = (HEADS + 2u * KV_HEADS) * N; // vectors in a row of qkv: its q heads, then k, then v
const ROWS = 16u * {{R}}u;
const PART = {{PART}}u; // keys staged at a time

struct Params { batch: u32, sequence: u32, tiles: u32 /* ceil(sequence / ROWS) */, scale: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> qkv: array<vec4<f32>>; // [batch * sequence, STRIDE]
@group(0) @binding(2) var<storage, read> out: array<vec4<f32>>; // [batch * sequence, HEADS * N]
@group(0) @binding(3) var<storage, read> logSumExp: array<f32>; // [batch * sequence, HEADS]
@group(0) @binding(4) var<storage, read> dOut: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> rowDots: array<f32>; // [batch * sequence, HEADS]
@group(0) @binding(6) var<storage, read_write> dqkv: array<vec4<f32>>; // [batch * sequence, STRIDE]: the q columns

const COLUMNS_AT = 4u * (ROWS + 2u);
var<workgroup> staged: array<vec4<f32>, {{STAGED}}>;
var<workgroup> weights: array<Rows, 544>;

fn mac(a: vec4<f32>, b: vec4<f32>, c: f32) -> f32 { return fma(a.x, b.x, fma(a.y, b.y, fma(a.z, b.z, fma(a.w, b.w, c)))); }

// What the tile's rows and the columns of a product are: q·k and dOut·v. n is a vector's number.
fn row_qk(row: u32, head: u32, n: u32) -> vec4<f32> { return qkv[row * STRIDE + head * N + n]; }
fn row_dv(row: u32, head: u32, n: u32) -> vec4<f32> { return dOut[(row * HEADS + head) * N + n]; }
fn column_qk(row: u32, kvHead: u32, n: u32) -> vec4<f32> { return qkv[row * STRIDE + (HEADS + kvHead) * N + n]; }
fn column_dv(row: u32, kvHead: u32, n: u32) -> vec4<f32> { return column_qk(row, kvHead, n + KV_HEADS * N); }

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
  let kvHead = head / (HEADS / KV_HEADS);

  var total: Rows;
  //:for r {{R}}
  let at_${r} = (first + min(t + y + ${r}u * 16u, last)) * HEADS + head;
  var dot_${r} = 0.0;
  for (var n = x; n < N; n += 8u) {
    dot_${r} = mac(dOut[at_${r} * N + n], out[at_${r} * N + n], dot_${r});
  }
  weights[x * 16u + y][${r}] = dot_${r};
  total[${r}] = logSumExp[at_${r}];
  //:for m {{SLICES}}
  var sum_${r}_${m} = vec4<f32>();
  //:end
  //:end
  workgroupBarrier();
  var rowDot = weights[y];
  for (var s = 1u; s < 8u; s++) {
    rowDot += weights[s * 16u + y];
  }
  //:for r {{R}}
  if (x == 0u && t + y + ${r}u * 16u <= last) { rowDots[at_${r}] = rowDot[${r}]; }
  //:end
  workgroupBarrier();

  for (var j = 0u; j <= end; j += 32u) {
    //:for o qk dv
    //:for r {{R}}
    //:for c 4
    var ${o}_${r}_${c} = 0.0;
    //:end
    //:end
    //:end
    for (var d = 0u; d < N; d += 4u) {
      let n = d + lane % 4u;
      let key = first + min(j + lane / 4u, last);
      //:for o qk dv
      for (var s = lane / 4u; s < ROWS; s += 32u) {
        let row = row_${o}(first + min(t + s, last), head, min(n, N - 1u));
        staged[lane % 4u * (ROWS + 2u) + s] = select(vec4<f32>(), row, n < N);
      }
      staged[COLUMNS_AT + lane % 4u * 34u + lane / 4u] = column_${o}(key, kvHead, min(n, N - 1u));
      workgroupBarrier();
      for (var n = 0u; n < 4u; n++) {
        //:for r {{R}}
        let row_${r} = staged[n * (ROWS + 2u) + y + ${r}u * 16u];
        //:end
        //:for c 4
        let column_${c} = staged[COLUMNS_AT + n * 34u + x + ${c}u * 8u];
        //:for r {{R}}
        ${o}_${r}_${c} = mac(row_${r}, column_${c}, ${o}_${r}_${c});
        //:end
        //:end
      }
      workgroupBarrier();
      //:end
    }
    //:for c 4
    {
      let key = j + x + ${c}u * 8u;
      let weight = exp(Rows(
        //:for r {{R}}
        select(-1e30, qk_${r}_${c} * p.scale, key <= t + y + ${r}u * 16u),
        //:end
      ) - total);
      weights[(x + ${c}u * 8u) * 17u + y] = weight * p.scale * (Rows(
        //:for r {{R}}
        dv_${r}_${c},
        //:end
      ) - rowDot);
    }
    //:end
    for (var part = 0u; part < 32u; part += PART) {
      for (var s = lane; s < PART * N; s += 128u) {
        staged[s] = column_qk(first + min(j + part + s / N, last), kvHead, s % N);
      }
      workgroupBarrier();
      for (var s = 0u; s < PART; s++) {
        let dScore = weights[(part + s) * 17u + y];
        //:for m {{SLICES}}
        let key_${m} = staged[s * N + min(x + ${m}u * 8u, N - 1u)];
        //:for r {{R}}
        sum_${r}_${m} = fma(key_${m}, vec4<f32>(dScore[${r}]), sum_${r}_${m});
        //:end
        //:end
      }
      workgroupBarrier();
    }
  }
  //:for r {{R}}
  if (t + y + ${r}u * 16u <= last) {
    let at = (first + t + y + ${r}u * 16u) * STRIDE + head * N + x;
    //:for m {{SLICES}}
    if (x + ${m}u * 8u < N) { dqkv[at + ${m}u * 8u] = sum_${r}_${m}; }
    //:end
  }
  //:end
}
