// inverse = 1 / (sqrt(sum of the partial sums) + eps): one workgroup, lanes in order, then their sums in order.
struct Params {
  partials: u32,
  eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> partial: array<f32>;
@group(0) @binding(2) var<storage, read_write> inverse: array<f32>;

var<workgroup> sums: array<f32, {{LANES}}>;

@compute @workgroup_size({{LANES}})
fn main(@builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  for (var i = lane; i < p.partials; i += {{LANES}}u) {
    sum += partial[i];
  }
  sums[lane] = sum;
  workgroupBarrier();
  if (lane == 0u) {
    var total = 0.0;
    for (var i = 0u; i < {{LANES}}u; i++) {
      total += sums[i];
    }
    inverse[0] = 1.0 / (sqrt(total) + p.eps);
  }
}
