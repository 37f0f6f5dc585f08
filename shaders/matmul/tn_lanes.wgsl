// C[m,n] (+)= sum over k of A[k,m] * B[k,n], for adapters whose subgroups are exactly four invocations: see nt_lanes.wgsl.
// The four share 4 * {{TQ}} rows of C, each loading one of four rows k of A for all; {{TV}} vec4 columns each.
// m and n are multiples of 4, k is any number.
enable subgroups;

struct Params {
  m: u32,
  n: u32,
  k: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> c: array<vec4<f32>>;

fn put(row: u32, column: u32, width: u32, sum: vec4<f32>) {
  if (row < p.m && column < width) {
    let i = row * width + column;
    if (p.accumulate == 1u) {
      c[i] += sum;
    } else {
      c[i] = sum;
    }
  }
}

@compute @workgroup_size(4)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
  let height = p.m / 4u;
  let width = p.n / 4u;
  let row = group.y * {{TQ}}u;
  let column = (group.x * 4u + lane) * {{TV}}u;
//:for q {{TQ}}
  let a_${q} = min(row + ${q}u, height - 1u);
//:end
//:for j {{TV}}
  let b_${j} = min(column + ${j}u, width - 1u);
//:end
//:for q {{TQ}}
//:for s x y z w
//:for j {{TV}}
  var c_${q}${s}_${j} = vec4<f32>();
//:end
//:end
//:end
  for (var k = 0u; k < p.k; k += 4u) {
    // Rows of A past the end count nothing.
    let live = select(0.0, 1.0, k + lane < p.k);
    let mine = min(k + lane, p.k - 1u) * height;
//:for l 4
    let k_${l} = min(k + ${l}u, p.k - 1u) * width;
//:for j {{TV}}
    let y_${j}_${l} = b[k_${l} + b_${j}];
//:end
//:end
//:for q {{TQ}}
    {
      let own = a[mine + a_${q}] * live;
//:for l 4
      let x_${l} = subgroupBroadcast(own, ${l}u);
//:end
//:for s x y z w
//:for j {{TV}}
      c_${q}${s}_${j} = fma(vec4<f32>(x_0.${s}), y_${j}_0, fma(vec4<f32>(x_1.${s}), y_${j}_1,
        fma(vec4<f32>(x_2.${s}), y_${j}_2, fma(vec4<f32>(x_3.${s}), y_${j}_3, c_${q}${s}_${j}))));
//:end
//:end
    }
//:end
  }
  // Stored from a loop: unrolled, the guards take longer to compile than all the rest.
  var sums: array<array<vec4<f32>, {{TV}}>, {{TQ}} * 4>;
//:for q {{TQ}}
//:for j {{TV}}
  sums[${q} * 4][${j}] = c_${q}x_${j};
  sums[${q} * 4 + 1][${j}] = c_${q}y_${j};
  sums[${q} * 4 + 2][${j}] = c_${q}z_${j};
  sums[${q} * 4 + 3][${j}] = c_${q}w_${j};
//:end
//:end
  for (var i = 0u; i < {{TQ}}u * 4u; i++) {
    for (var j = 0u; j < {{TV}}u; j++) {
      put(row * 4u + i, column + j, width, sums[i][j]);
    }
  }
}
