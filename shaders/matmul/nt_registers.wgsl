// C[m,n] (+)= sum over k of A[m,k] * B[n,k]. Registers only: an invocation keeps {{TM}} x {{TN}} sums.
// Columns k are a multiple of 4. Rows past the end are computed from the last row and not stored.
struct Params {
  m: u32,
  n: u32,
  k: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

{{STORE}}
@compute @workgroup_size({{WX}}, {{WY}})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = id.y * {{TM}}u;
  let unit = id.x;
  if (row >= p.m || unit * {{TN}}u >= p.n) {
    return;
  }
  let vectors = p.k / 4u;
//:for i {{TM}}
  let a_${i} = min(row + ${i}u, p.m - 1u) * vectors;
//:end
//:for j {{TN}}
  let b_${j} = min(columnOf(unit, ${j}u), p.n - 1u) * vectors;
//:end
//:for i {{TM}}
//:for j {{TN}}
  var c_${i}_${j} = 0.0;
//:end
//:end
  for (var k = 0u; k < vectors; k++) {
//:for i {{TM}}
    let x_${i} = a[a_${i} + k];
//:end
//:for j {{TN}}
    {
      let y = b[b_${j} + k];
//:for i {{TM}}
      c_${i}_${j} = fma(x_${i}.x, y.x, fma(x_${i}.y, y.y, fma(x_${i}.z, y.z, fma(x_${i}.w, y.w, c_${i}_${j}))));
//:end
    }
//:end
  }
  // Stored from a loop: unrolled, the guards take longer to compile than all the rest.
  var sums: array<array<f32, {{TN}}>, {{TM}}>;
//:for i {{TM}}
//:for j {{TN}}
  sums[${i}][${j}] = c_${i}_${j};
//:end
//:end
  for (var i = 0u; i < {{TM}}u; i++) {
    store(row + i, unit, sums[i]);
  }
}
