// C[m,n] (+)= sum over k of A[k,m] * B[k,n]. Registers only: an invocation keeps 4 * {{TU}} rows of {{TV}} vec4 sums.
// m and n are multiples of 4, k is any number: the last rows of A are multiplied by zero where they are past the end.
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
  let height = p.m / 4u;
  let width = p.n / 4u;
  let row = id.y * {{TU}}u;
  let column = id.x * {{TV}}u;
  if (row >= height || column >= width) {
    return;
  }
//:for i {{TU}}
  let a_${i} = min(row + ${i}u, height - 1u);
//:end
//:for j {{TV}}
  let b_${j} = min(column + ${j}u, width - 1u);
//:end
//:for i {{TU}}
//:for s x y z w
//:for j {{TV}}
  var c_${i}${s}_${j} = vec4<f32>();
//:end
//:end
//:end
  for (var k = 0u; k < p.k; k += 4u) {
//:for l 0 1 2 3
    let k_${l} = min(k + ${l}u, p.k - 1u);
    let live_${l} = select(0.0, 1.0, k + ${l}u < p.k);
//:for j {{TV}}
    let y_${j}_${l} = b[k_${l} * width + b_${j}];
//:end
//:end
//:for i {{TU}}
    {
//:for l 0 1 2 3
      let x_${l} = a[k_${l} * height + a_${i}] * live_${l};
//:end
//:for s x y z w
//:for j {{TV}}
      c_${i}${s}_${j} = fma(vec4<f32>(x_0.${s}), y_${j}_0, fma(vec4<f32>(x_1.${s}), y_${j}_1,
        fma(vec4<f32>(x_2.${s}), y_${j}_2, fma(vec4<f32>(x_3.${s}), y_${j}_3, c_${i}${s}_${j}))));
//:end
//:end
    }
//:end
  }
  // Stored from a loop: unrolled, the guards take longer to compile than all the rest.
  var sums: array<array<vec4<f32>, {{TV}}>, {{TU}} * 4>;
//:for i {{TU}}
//:for j {{TV}}
  sums[${i} * 4][${j}] = c_${i}x_${j};
  sums[${i} * 4 + 1][${j}] = c_${i}y_${j};
  sums[${i} * 4 + 2][${j}] = c_${i}z_${j};
  sums[${i} * 4 + 3][${j}] = c_${i}w_${j};
//:end
//:end
  for (var i = 0u; i < {{TU}}u * 4u; i++) {
    for (var j = 0u; j < {{TV}}u; j++) {
      put(row * 4u + i, column + j, width, sums[i][j]);
    }
  }
}
