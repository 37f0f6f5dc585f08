// C[m,n] (+)= sum over k of A * B by subgroup matrices, 8 x 8 in f32: a subgroup owns {{TILES_M}} x {{TILES_N}} of them, a workgroup
// {{PARTS}} times the rows, which its subgroups share, however many they are. A and B lie along k in memory or across it
// (A_ALONG, ...). m and n are multiples of what a subgroup owns, k of 8. The sums start at zero, at C (accumulate), or at
// the residual.
enable chromium_experimental_subgroup_matrix;
enable subgroups;
diagnostic(off, chromium.subgroup_matrix_uniformity); // A subgroup's part is the same for all of it.

struct Params {
  m: u32,
  n: u32,
  k: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;
//:for on {{RESIDUAL}}
@group(0) @binding(4) var<storage, read> residual: array<f32>;
//:end

fn part(row: u32, column: u32) {
//:for i {{TILES_M}}
//:for j {{TILES_N}}
  let at_${i}_${j} = (row + ${i}u * 8u) * p.n + column + ${j}u * 8u;
  var c_${i}_${j}: subgroup_matrix_result<f32, 8, 8>;
//:for on {{RESIDUAL}}
  c_${i}_${j} = subgroupMatrixLoad<subgroup_matrix_result<f32, 8, 8>>(&residual, at_${i}_${j}, false, p.n);
//:end
//:end
//:end
  if (p.accumulate == 1u) {
//:for i {{TILES_M}}
//:for j {{TILES_N}}
    c_${i}_${j} = subgroupMatrixLoad<subgroup_matrix_result<f32, 8, 8>>(&c, at_${i}_${j}, false, p.n);
//:end
//:end
  }
  for (var k = 0u; k < p.k; k += 8u) {
//:for i {{TILES_M}}
//:for on {{A_ALONG}}
    let x_${i} = subgroupMatrixLoad<subgroup_matrix_left<f32, 8, 8>>(&a, (row + ${i}u * 8u) * p.k + k, false, p.k);
//:end
//:for on {{A_ACROSS}}
    let x_${i} = subgroupMatrixLoad<subgroup_matrix_left<f32, 8, 8>>(&a, k * p.m + row + ${i}u * 8u, true, p.m);
//:end
//:end
//:for j {{TILES_N}}
//:for on {{B_ALONG}}
    let y_${j} = subgroupMatrixLoad<subgroup_matrix_right<f32, 8, 8>>(&b, (column + ${j}u * 8u) * p.k + k, true, p.k);
//:end
//:for on {{B_ACROSS}}
    let y_${j} = subgroupMatrixLoad<subgroup_matrix_right<f32, 8, 8>>(&b, k * p.n + column + ${j}u * 8u, false, p.n);
//:end
//:for i {{TILES_M}}
    c_${i}_${j} = subgroupMatrixMultiplyAccumulate(x_${i}, y_${j}, c_${i}_${j});
//:end
//:end
  }
//:for i {{TILES_M}}
//:for j {{TILES_N}}
  subgroupMatrixStore(&c, at_${i}_${j}, c_${i}_${j}, false, p.n);
//:end
//:end
}

@compute @workgroup_size({{INVOCATIONS}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32,
        @builtin(subgroup_size) size: u32) {
  for (var i = lane / size; i < {{PARTS}}u; i += {{INVOCATIONS}}u / size) {
    let row = (group.y * {{PARTS}}u + i) * {{TILES_M}}u * 8u;
    if (row < p.m) {
      part(row, group.x * {{TILES_N}}u * 8u);
    }
  }
}
