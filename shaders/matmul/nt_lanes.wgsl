// C[m,n] (+)= sum over k of A[m,k] * B[n,k], for adapters whose subgroups are exactly four invocations (software ones,
// where a load costs far more than a multiplication). The four own neighbouring columns and the same {{TM}} rows: each
// loads a quarter of the rows and broadcasts it. {{TN}} columns an invocation; k is a multiple of 4.
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
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

{{STORE}}
@compute @workgroup_size(4)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
  let row = group.y * {{TM}}u;
  let unit = group.x * 4u + lane;
  let vectors = p.k / 4u;
//:for q {{TQ}}
  let a_${q} = min(row + ${q}u * 4u + lane, p.m - 1u) * vectors;
//:end
//:for j {{TN}}
  let b_${j} = min(columnOf(unit, ${j}u), p.n - 1u) * vectors;
//:end
//:for q {{TQ}}
//:for l 4
//:for j {{TN}}
  var c_${q}${l}_${j} = 0.0;
//:end
//:end
//:end
  for (var k = 0u; k < vectors; k++) {
//:for j {{TN}}
    let y_${j} = b[b_${j} + k];
//:end
//:for q {{TQ}}
    {
      let own = a[a_${q} + k];
//:for l 4
      {
        let x = subgroupBroadcast(own, ${l}u);
//:for j {{TN}}
        c_${q}${l}_${j} = fma(x.x, y_${j}.x, fma(x.y, y_${j}.y, fma(x.z, y_${j}.z, fma(x.w, y_${j}.w, c_${q}${l}_${j}))));
//:end
      }
//:end
    }
//:end
  }
  // Stored from a loop: unrolled, the guards take longer to compile than all the rest.
  var sums: array<array<f32, {{TN}}>, {{TM}}>;
//:for q {{TQ}}
//:for l 4
//:for j {{TN}}
  sums[${q} * 4 + ${l}][${j}] = c_${q}${l}_${j};
//:end
//:end
//:end
  for (var i = 0u; i < {{TM}}u; i++) {
    store(row + i, unit, sums[i]);
  }
}
