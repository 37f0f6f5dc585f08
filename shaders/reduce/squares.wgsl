// partial[i] = sum of the squares of values[i], values[i + partials], values[i + 2 * partials], … in this order.
struct Params {
  length: u32,
  partials: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> values: array<f32>;
@group(0) @binding(2) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= p.partials) {
    return;
  }
  var sum = 0.0;
  for (var i = id.x; i < p.length; i += p.partials) {
    sum = fma(values[i], values[i], sum);
  }
  partial[id.x] = sum;
}
