// C[m,n] (+)= sum over k of A(m,k) * B(k,n) for any sizes and any layout: A(m,k) = a[m * aRow + k * aStep],
// B(k,n) = b[n * bColumn + k * bStep]. The fallback where a side is no multiple of 4; {{TM}} x {{TN}} sums in registers.
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
{{STORE}}
@compute @workgroup_size({{WX}}, {{WY}})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = id.y * {{TM}}u;
  let unit = id.x;
  if (row >= p.m || unit * {{TN}}u >= p.n) {
    return;
  }
//:for i {{TM}}
  let a_${i} = min(row + ${i}u, p.m - 1u) * p.aRow;
//:end
//:for j {{TN}}
  let b_${j} = min(columnOf(unit, ${j}u), p.n - 1u) * p.bColumn;
//:end
//:for i {{TM}}
//:for j {{TN}}
  var c_${i}_${j} = 0.0;
//:end
//:end
  for (var k = 0u; k < p.k; k++) {
//:for i {{TM}}
    let x_${i} = a[a_${i} + k * p.aStep];
//:end
//:for j {{TN}}
    {
      let y = b[b_${j} + k * p.bStep];
//:for i {{TM}}
      c_${i}_${j} = fma(x_${i}, y, c_${i}_${j});
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
