// C[m,n] (+)= sum over k of A * B through workgroup memory: tiles of {{BM}} x {{BN}}, {{BK}} deep, {{WX}} x {{WY}} invocations that keep
// 4 * {{QUADS}} rows of {{VECTORS}} vec4 sums each. A and B lie along k in memory or across it (A_ALONG, A_ACROSS, ...). k is a
// multiple of {{BK}}, n of 4, and so is m where A lies across. What is past the end is loaded from the last row or column and
// not stored: addresses are clamped once, ahead of the loop. Group z takes `span` columns of k.
{{ENABLE}}
struct Params {
  m: u32,
  n: u32,
  k: u32,
  accumulate: u32,
  span: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
{{STORE}}

// One vec4 of padding spreads what an invocation writes over the banks.
const ROW_A = {{BM}}u / 4u + 1u;
const ROW_B = {{BN}}u / 4u + 1u;
var<workgroup> tileA: array<vec4<{{TILE}}>, {{BK}}u * ROW_A>;
var<workgroup> tileB: array<vec4<{{TILE}}>, {{BK}}u * ROW_B>;

// Four rows along k, turned to lie across it.
fn turned(v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>) -> mat4x4<f32> {
  return transpose(mat4x4<f32>(v0, v1, v2, v3));
}

@compute @workgroup_size({{WX}}, {{WY}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let depth = p.k / 4u;
  let width = p.n / 4u;
  let height = p.m / 4u;
  let unit = group.x * {{WX}}u + local.x;
  let start = group.z * p.span;
  let end = min(start + p.span, p.k);
//:for on {{SPLIT}}
  plane = group.z;
//:end
//:for t {{A_LOADS}}
  let e_${t} = lane + ${t}u * {{WX}}u * {{WY}}u;
//:for on {{A_ALONG}}
  let quadA_${t} = e_${t} / ({{BK}}u / 4u);
  let stepA_${t} = e_${t} % ({{BK}}u / 4u);
//:for l 4
  let a_${t}${l} = min(group.y * {{BM}}u + quadA_${t} * 4u + ${l}u, p.m - 1u) * depth + stepA_${t};
//:end
//:end
//:for on {{A_ACROSS}}
  let quadA_${t} = e_${t} % ({{BM}}u / 4u);
  let stepA_${t} = e_${t} / ({{BM}}u / 4u);
  let a_${t} = stepA_${t} * height + min(group.y * {{BM}}u / 4u + quadA_${t}, height - 1u);
//:end
//:end
//:for t {{B_LOADS}}
  let f_${t} = lane + ${t}u * {{WX}}u * {{WY}}u;
//:for on {{B_ALONG}}
  let quadB_${t} = f_${t} / ({{BK}}u / 4u);
  let stepB_${t} = f_${t} % ({{BK}}u / 4u);
//:end
//:for on {{B_ACROSS}}
  let quadB_${t} = f_${t} % ({{BN}}u / 4u);
  let stepB_${t} = f_${t} / ({{BN}}u / 4u);
//:end
  let column_${t} = min(columnOf(group.x * {{WX}}u + quadB_${t} % {{WX}}u, quadB_${t} / {{WX}}u), width - 1u);
//:for on {{B_ALONG}}
  let b_${t} = column_${t} * 4u * depth + stepB_${t};
//:end
//:for on {{B_ACROSS}}
  let b_${t} = stepB_${t} * width + column_${t};
//:end
//:end
//:for q {{QUADS}}
//:for l 4
//:for u {{VECTORS}}
  var c_${q}${l}_${u} = vec4<f32>();
//:end
//:end
//:end
  for (var k = start; k < end; k += {{BK}}u) {
    let v = k / 4u;
//:for t {{A_LOADS}}
    if (e_${t} < {{A_ITEMS}}u) {
//:for on {{A_ALONG}}
      let x = turned(a[a_${t}0 + v], a[a_${t}1 + v], a[a_${t}2 + v], a[a_${t}3 + v]);
//:for l 4
      tileA[(stepA_${t} * 4u + ${l}u) * ROW_A + quadA_${t}] = vec4<{{TILE}}>(x[${l}]);
//:end
//:end
//:for on {{A_ACROSS}}
      tileA[stepA_${t} * ROW_A + quadA_${t}] = vec4<{{TILE}}>(a[k * height + a_${t}]);
//:end
    }
//:end
//:for t {{B_LOADS}}
    if (f_${t} < {{B_ITEMS}}u) {
//:for on {{B_ALONG}}
      let y = turned(b[b_${t} + v], b[b_${t} + depth + v], b[b_${t} + 2u * depth + v], b[b_${t} + 3u * depth + v]);
//:for l 4
      tileB[(stepB_${t} * 4u + ${l}u) * ROW_B + quadB_${t}] = vec4<{{TILE}}>(y[${l}]);
//:end
//:end
//:for on {{B_ACROSS}}
      tileB[stepB_${t} * ROW_B + quadB_${t}] = vec4<{{TILE}}>(b[k * width + b_${t}]);
//:end
    }
//:end
    workgroupBarrier();
    for (var d = 0u; d < {{BK}}u; d++) {
//:for u {{VECTORS}}
      let y_${u} = vec4<f32>(tileB[d * ROW_B + local.x + ${u}u * {{WX}}u]);
//:end
//:for q {{QUADS}}
      let x_${q} = vec4<f32>(tileA[d * ROW_A + local.y + ${q}u * {{WY}}u]);
//:for l 4
//:for u {{VECTORS}}
      c_${q}${l}_${u} = fma(vec4<f32>(x_${q}[${l}]), y_${u}, c_${q}${l}_${u});
//:end
//:end
//:end
    }
    workgroupBarrier();
  }
//:for q {{QUADS}}
//:for l 4
  {
    var sums: array<vec4<f32>, {{VECTORS}}>;
//:for u {{VECTORS}}
    sums[${u}] = c_${q}${l}_${u};
//:end
    store(group.y * {{BM}}u + (local.y + ${q}u * {{WY}}u) * 4u + ${l}u, unit, sums);
  }
//:end
//:end
}
