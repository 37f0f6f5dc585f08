// C[m,n] (+)= sum over k of A[m,k] * B[k,n], for adapters whose subgroups are exactly four invocations: see nt_lanes.wgsl.
// The four share {{TM}} rows and own {{TV}} vec4 columns each; k and n are multiples of 4.
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
  let width = p.n / 4u;
  let depth = p.k / 4u;
  let row = group.y * {{TM}}u;
  let column = (group.x * 4u + lane) * {{TV}}u;
//:for q {{TQ}}
  let a_${q} = min(row + ${q}u * 4u + lane, p.m - 1u) * depth;
//:end
//:for j {{TV}}
  let b_${j} = min(column + ${j}u, width - 1u);
//:end
//:for q {{TQ}}
//:for l 4
//:for j {{TV}}
  var c_${q}${l}_${j} = vec4<f32>();
//:end
//:end
//:end
  for (var k = 0u; k < depth; k++) {
    let y = k * 4u * width;
//:for j {{TV}}
    let y_${j}_0 = b[y + b_${j}];
    let y_${j}_1 = b[y + width + b_${j}];
    let y_${j}_2 = b[y + 2u * width + b_${j}];
    let y_${j}_3 = b[y + 3u * width + b_${j}];
//:end
//:for q {{TQ}}
    {
      let own = a[a_${q} + k];
//:for l 4
      {
        let x = subgroupBroadcast(own, ${l}u);
//:for j {{TV}}
        c_${q}${l}_${j} = fma(vec4<f32>(x.x), y_${j}_0, fma(vec4<f32>(x.y), y_${j}_1,
          fma(vec4<f32>(x.z), y_${j}_2, fma(vec4<f32>(x.w), y_${j}_3, c_${q}${l}_${j}))));
//:end
      }
//:end
    }
//:end
  }
  // Stored from a loop: unrolled, the guards take longer to compile than all the rest.
  var sums: array<array<vec4<f32>, {{TV}}>, {{TM}}>;
//:for q {{TQ}}
//:for l 4
//:for j {{TV}}
  sums[${q} * 4 + ${l}][${j}] = c_${q}${l}_${j};
//:end
//:end
//:end
  for (var i = 0u; i < {{TM}}u; i++) {
    for (var j = 0u; j < {{TV}}u; j++) {
      put(row + i, column + j, width, sums[i][j]);
    }
  }
}
