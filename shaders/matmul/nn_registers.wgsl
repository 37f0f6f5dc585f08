// C[m,n] (+)= sum over k of A[m,k] * B[k,n]. Registers only: an invocation keeps {{TM}} rows of {{TV}} vec4 sums.
// k and n are multiples of 4. Rows and columns past the end are computed from the last ones and not stored.
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

@compute @workgroup_size({{WX}}, {{WY}})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let width = p.n / 4u;
  let depth = p.k / 4u;
  let row = id.y * {{TM}}u;
  let column = id.x * {{TV}}u;
  if (row >= p.m || column >= width) {
    return;
  }
//:for i {{TM}}
  let a_${i} = min(row + ${i}u, p.m - 1u) * depth;
//:end
//:for j {{TV}}
  let b_${j} = min(column + ${j}u, width - 1u);
//:end
//:for i {{TM}}
//:for j {{TV}}
  var c_${i}_${j} = vec4<f32>();
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
//:for i {{TM}}
    {
      let x = a[a_${i} + k];
//:for j {{TV}}
      c_${i}_${j} = fma(vec4<f32>(x.x), y_${j}_0, fma(vec4<f32>(x.y), y_${j}_1,
        fma(vec4<f32>(x.z), y_${j}_2, fma(vec4<f32>(x.w), y_${j}_3, c_${i}_${j}))));
//:end
    }
//:end
  }
  // Stored from a loop: unrolled, the guards take longer to compile than all the rest.
  var sums: array<array<vec4<f32>, {{TV}}>, {{TM}}>;
//:for i {{TM}}
//:for j {{TV}}
  sums[${i}][${j}] = c_${i}_${j};
//:end
//:end
  for (var i = 0u; i < {{TM}}u; i++) {
    for (var j = 0u; j < {{TV}}u; j++) {
      put(row + i, column + j, width, sums[i][j]);
    }
  }
}
