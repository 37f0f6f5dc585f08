// dk and dv of causal attention in tiles: the layout of flash_forward.wgsl, turned. A workgroup owns ROWS key rows of one
// key head and walks the queries that see them, 32 at a time, of every query head that shares it, in a fixed order.
alias Rows = vec{{R}}<f32>; // something of the invocation's rows
const N = {{VECTORS}}u; // vectors in a head
const HEADS = {{HEADS}}u;
const KV_HEADS = {{KV_HEADS}}u;
const STRIDE = (HEADS + 2u * KV_HEADS) * N; // vectors in a row of qkv: its q heads, then k, then v
const ROWS = 16u * {{R}}u;
const PART = {{PART}}u; // queries staged at a time

struct Params {
  batch: u32,
  sequence: u32,
  tiles: u32, // ceil(sequence / ROWS)
  scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> qkv: array<vec4<f32>>; // [batch * sequence, STRIDE]
@group(0) @binding(2) var<storage, read> logSumExp: array<f32>; // [batch * sequence, HEADS]
@group(0) @binding(3) var<storage, read> dOut: array<vec4<f32>>; // [batch * sequence, HEADS * N]
@group(0) @binding(4) var<storage, read> rowDots: array<f32>; // [batch * sequence, HEADS]
@group(0) @binding(5) var<storage, read_write> dqkv: array<vec4<f32>>; // [batch * sequence, STRIDE]: the k and v columns

const COLUMNS_AT = 4u * (ROWS + 2u);
var<workgroup> staged: array<vec4<f32>, {{STAGED}}>;
var<workgroup> weights: array<Rows, 544>;

fn mac(a: vec4<f32>, b: vec4<f32>, c: f32) -> f32 { return fma(a.x, b.x, fma(a.y, b.y, fma(a.z, b.z, fma(a.w, b.w, c)))); }

// What the tile's rows and the columns of a product are: k·q and v·dOut. n is a vector's number.
fn row_qk(row: u32, kvHead: u32, n: u32) -> vec4<f32> { return qkv[row * STRIDE + (HEADS + kvHead) * N + n]; }
fn row_dv(row: u32, kvHead: u32, n: u32) -> vec4<f32> { return row_qk(row, kvHead, n + KV_HEADS * N); }
fn column_qk(row: u32, head: u32, n: u32) -> vec4<f32> { return qkv[row * STRIDE + head * N + n]; }
fn column_dv(row: u32, head: u32, n: u32) -> vec4<f32> { return dOut[(row * HEADS + head) * N + n]; }

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = group.x + group.y * count.x;
  let kvHead = (i / p.tiles) % KV_HEADS;
  let sequence = i / (p.tiles * KV_HEADS);
  if (sequence >= p.batch) {
    return;
  }
  let x = lane % 8u;
  let y = lane / 8u;
  let first = sequence * p.sequence;
  let last = p.sequence - 1u;
  let j = i % p.tiles * ROWS; // the longest first

  //:for r {{R}}
  //:for m {{SLICES}}
  var sum_qk_${r}_${m} = vec4<f32>();
  var sum_dv_${r}_${m} = vec4<f32>();
  //:end
  //:end
  for (var h = 0u; h < HEADS / KV_HEADS; h++) {
    let head = kvHead * (HEADS / KV_HEADS) + h;
    for (var t = j; t <= last; t += 32u) {
      //:for o qk dv
      //:for r {{R}}
      //:for c 4
      var ${o}_${r}_${c} = 0.0;
      //:end
      //:end
      //:end
      for (var d = 0u; d < N; d += 4u) {
        let n = d + lane % 4u;
        let query = first + min(t + lane / 4u, last);
        //:for o qk dv
        for (var s = lane / 4u; s < ROWS; s += 32u) {
          let row = row_${o}(first + min(j + s, last), kvHead, min(n, N - 1u));
          staged[lane % 4u * (ROWS + 2u) + s] = select(vec4<f32>(), row, n < N);
        }
        staged[COLUMNS_AT + lane % 4u * 34u + lane / 4u] = column_${o}(query, head, min(n, N - 1u));
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
      let query_${c} = t + x + ${c}u * 8u;
      let at_${c} = (first + min(query_${c}, last)) * HEADS + head;
      //:for r {{R}}
      let seen_${r}_${c} = j + y + ${r}u * 16u <= query_${c} && query_${c} <= last;
      //:end
      let dv_weight_${c} = exp(Rows(
        //:for r {{R}}
        select(-1e30, qk_${r}_${c} * p.scale, seen_${r}_${c}),
        //:end
      ) - logSumExp[at_${c}]);
      let qk_weight_${c} = dv_weight_${c} * p.scale * (Rows(
        //:for r {{R}}
        dv_${r}_${c},
        //:end
      ) - rowDots[at_${c}]);
      //:end
      // dv by the weights and dOut, then dk by the gradients of the scores and q.
      //:for o dv qk
      //:for c 4
      weights[(x + ${c}u * 8u) * 17u + y] = ${o}_weight_${c};
      //:end
      for (var part = 0u; part < 32u; part += PART) {
        for (var s = lane; s < PART * N; s += 128u) {
          staged[s] = column_${o}(first + min(t + part + s / N, last), head, s % N);
        }
        workgroupBarrier();
        for (var s = 0u; s < PART; s++) {
          let weight = weights[(part + s) * 17u + y];
          //:for m {{SLICES}}
          let column_${m} = staged[s * N + min(x + ${m}u * 8u, N - 1u)];
          //:for r {{R}}
          sum_${o}_${r}_${m} = fma(column_${m}, vec4<f32>(weight[${r}]), sum_${o}_${r}_${m});
          //:end
          //:end
        }
        workgroupBarrier();
      }
      //:end
    }
  }
  //:for r {{R}}
  if (j + y + ${r}u * 16u <= last) {
    let at = (first + j + y + ${r}u * 16u) * STRIDE + (HEADS + kvHead) * N + x;
    //:for m {{SLICES}}
    if (x + ${m}u * 8u < N) {
      dqkv[at + ${m}u * 8u] = sum_qk_${r}_${m};
      dqkv[at + KV_HEADS * N + ${m}u * 8u] = sum_dv_${r}_${m};
    }
    //:end
  }
  //:end
}
