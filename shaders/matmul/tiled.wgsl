// C[m,n] (+)= sum over k of A(m,k) * B(k,n), through workgroup memory: tiles of {{BM}} x {{BN}}, {{BK}} deep, a workgroup of
// 16 x 16 invocations that keep {{TM}} x {{TN}} sums each. Any sizes; strides as in strided_registers.wgsl.
// {{A_ALONG_K}} and {{B_ALONG_K}} (true or false) say which way neighbours in memory lie, so that loads coalesce.
struct Params {
  m: u32,
  n: u32,
  k: u32,
  accumulate: u32,
  aRow: u32,
  aStep: u32,
  bColumn: u32,
  bStep: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

// One row of padding spreads a column over the banks.
var<workgroup> tileA: array<f32, {{BK}} * ({{BM}} + 1)>;
var<workgroup> tileB: array<f32, {{BK}} * ({{BN}} + 1)>;

fn put(row: u32, column: u32, sum: f32) {
  if (row < p.m && column < p.n) {
    let i = row * p.n + column;
    if (p.accumulate == 1u) {
      c[i] += sum;
    } else {
      c[i] = sum;
    }
  }
}

@compute @workgroup_size(16, 16)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let row = group.y * {{BM}}u;
  let column = group.x * {{BN}}u;
//:for i {{TM}}
//:for j {{TN}}
  var c_${i}_${j} = 0.0;
//:end
//:end
  for (var k = 0u; k < p.k; k += {{BK}}u) {
    for (var i = lane; i < {{BM}}u * {{BK}}u; i += 256u) {
      let depth = select(i / {{BM}}u, i % {{BK}}u, {{A_ALONG_K}});
      let r = select(i % {{BM}}u, i / {{BK}}u, {{A_ALONG_K}});
      var x = 0.0;
      if (row + r < p.m && k + depth < p.k) {
        x = a[(row + r) * p.aRow + (k + depth) * p.aStep];
      }
      tileA[depth * ({{BM}}u + 1u) + r] = x;
    }
    for (var i = lane; i < {{BN}}u * {{BK}}u; i += 256u) {
      let depth = select(i / {{BN}}u, i % {{BK}}u, {{B_ALONG_K}});
      let s = select(i % {{BN}}u, i / {{BK}}u, {{B_ALONG_K}});
      var y = 0.0;
      if (column + s < p.n && k + depth < p.k) {
        y = b[(column + s) * p.bColumn + (k + depth) * p.bStep];
      }
      tileB[depth * ({{BN}}u + 1u) + s] = y;
    }
    workgroupBarrier();
    for (var depth = 0u; depth < {{BK}}u; depth++) {
      // Sums 16 apart: neighbouring invocations read neighbouring words.
//:for i {{TM}}
      let x_${i} = tileA[depth * ({{BM}}u + 1u) + local.y + ${i}u * 16u];
//:end
//:for j {{TN}}
      {
        let y = tileB[depth * ({{BN}}u + 1u) + local.x + ${j}u * 16u];
//:for i {{TM}}
        c_${i}_${j} = fma(x_${i}, y, c_${i}_${j});
//:end
      }
//:end
    }
    workgroupBarrier();
  }
  // Stored from a loop: unrolled, the guards take longer to compile than all the rest.
  var sums: array<array<f32, {{TN}}>, {{TM}}>;
//:for i {{TM}}
//:for j {{TN}}
  sums[${i}][${j}] = c_${i}_${j};
//:end
//:end
  for (var i = 0u; i < {{TM}}u; i++) {
    for (var j = 0u; j < {{TN}}u; j++) {
      put(row + local.y + i * 16u, column + local.x + j * 16u, sums[i][j]);
    }
  }
}
