// C[m,n] (+)= sum over k of A * B with registers only: an invocation keeps 4 * {{QUADS}} rows of {{VECTORS}} vec4 sums and takes
// four columns k at a time, rows of A as x, columns of B as y. A and B lie along k in memory or across it (A_ALONG, ...).
// n is a multiple of 4, and so is the side that A lies along. Rows and columns past the end are computed from the last
// ones and not stored. With SHARES = 0 1 2 3 four neighbours own the rows together: each loads a quarter and the quarters
// go round, because on adapters whose subgroups are four invocations a load costs as much as ten multiplications.
{{ENABLE}}
struct Params {
  m: u32,
  n: u32,
  k: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
{{STORE}}

fn turn0(x: vec4<f32>) -> vec4<f32> {
  return x;
}
//:for on {{SHARED}}

fn turn1(x: vec4<f32>) -> vec4<f32> {
  return quadSwapX(x);
}

fn turn2(x: vec4<f32>) -> vec4<f32> {
  return quadSwapY(x);
}

fn turn3(x: vec4<f32>) -> vec4<f32> {
  return quadSwapDiagonal(x);
}
//:end

@compute @workgroup_size({{WX}}, {{WY}})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let unit = id.x;
  let lane = id.x % {{LANES}}u;
  let row = (id.y * {{LANES}}u + lane) * {{QUADS}}u * 4u;
  let depth = (p.k + 3u) / 4u;
  let width = p.n / 4u;
  let height = p.m / 4u;
//:for q {{QUADS}}
//:for on {{A_ALONG}}
//:for l 4
  let a_${q}${l} = min(row + ${q}u * 4u + ${l}u, p.m - 1u) * depth;
//:end
//:end
//:for on {{A_ACROSS}}
  let a_${q} = min(row / 4u + ${q}u, height - 1u);
//:end
//:end
//:for u {{VECTORS}}
  let b_${u} = min(columnOf(unit, ${u}u), width - 1u);
//:for on {{B_ALONG}}
  let b_${u}0 = b_${u} * 4u * depth;
  let b_${u}1 = b_${u}0 + depth;
  let b_${u}2 = b_${u}1 + depth;
  let b_${u}3 = b_${u}2 + depth;
//:end
//:end
//:for s {{SHARES}}
//:for q {{QUADS}}
//:for l 4
//:for u {{VECTORS}}
  var c_${s}${q}${l}_${u} = vec4<f32>();
//:end
//:end
//:end
//:end
  for (var v = 0u; v < depth; v++) {
//:for on {{A_ALONG}}
//:for q {{QUADS}}
//:for l 4
    let x_${q}${l} = a[a_${q}${l} + v];
//:end
//:end
//:end
//:for on {{A_ACROSS}}
//:for l 4
    let k_${l} = v * 4u + ${l}u;
    // Where k is no multiple of 4, what is past its end counts nothing.
    let live_${l} = select(0.0, 1.0, k_${l} < p.k);
    let i_${l} = min(k_${l}, p.k - 1u) * height;
    let j_${l} = min(k_${l}, p.k - 1u) * width;
//:end
//:for q {{QUADS}}
    let x_${q} = transpose(mat4x4<f32>(a[i_0 + a_${q}] * live_0, a[i_1 + a_${q}] * live_1,
      a[i_2 + a_${q}] * live_2, a[i_3 + a_${q}] * live_3));
//:for l 4
    let x_${q}${l} = x_${q}[${l}];
//:end
//:end
//:end
//:for on {{A_ALONG_B_ACROSS}}
    let j_0 = v * 4u * width;
    let j_1 = j_0 + width;
    let j_2 = j_1 + width;
    let j_3 = j_2 + width;
//:end
//:for u {{VECTORS}}
//:for on {{B_ALONG}}
    let y_${u} = {{TURN_ALONG}}(mat4x4<f32>(b[b_${u}0 + v], b[b_${u}1 + v], b[b_${u}2 + v], b[b_${u}3 + v]));
//:end
//:for on {{B_ACROSS}}
    let y_${u} = {{TURN_ACROSS}}(mat4x4<f32>(b[j_0 + b_${u}], b[j_1 + b_${u}], b[j_2 + b_${u}], b[j_3 + b_${u}]));
//:end
//:end
//:for s {{SHARES}}
//:for q {{QUADS}}
//:for l 4
    {
      let x = turn${s}(x_${q}${l});
//:for u {{VECTORS}}
      c_${s}${q}${l}_${u} = {{SUM}};
//:end
    }
//:end
//:end
//:end
  }
  // Stored from loops: unrolled, the guards take longer to compile than all the rest.
//:for s {{SHARES}}
  {
    var sums: array<array<vec4<f32>, {{VECTORS}}>, {{QUADS}} * 4>;
//:for q {{QUADS}}
//:for l 4
//:for u {{VECTORS}}
    sums[${q} * 4 + ${l}][${u}] = c_${s}${q}${l}_${u};
//:end
//:end
//:end
    let first = (id.y * {{LANES}}u + (lane ^ ${s}u)) * {{QUADS}}u * 4u;
    for (var i = 0u; i < {{QUADS}}u * 4u; i++) {
      store(first + i, unit, sums[i]);
    }
  }
//:end
}
