// How the moments lie in memory: as pairs of bf16, the first of a pair in the low half. Put before the kernels that read or
// write moments. They are rounded stochastically (Gupta et al. 2015): a moment that shrinks by less than half a unit a step,
// as the second does with beta2 above 0.996, would stand still under rounding to nearest.
alias Packed = vec2<u32>;

// Integer noise by PCG (O'Neill 2014; Jarzynski & Olano 2020, "Hash functions for GPU rendering", pcg).
fn pcg(v: vec4<u32>) -> vec4<u32> {
  let state = v * 747796405u + 2891336453u;
  let word = ((state >> ((state >> vec4<u32>(28u)) + 4u)) ^ state) * 277803737u;
  return (word >> vec4<u32>(22u)) ^ word;
}

// 32 bits for each of four elements from `element` on: 16 for either moment. A pure function of step and element.
fn noiseAt(element: u32, step: u32) -> vec4<u32> {
  return pcg(vec4<u32>(element, element + 1u, element + 2u, element + 3u) + pcg(vec4<u32>(step)));
}

fn unpacked(moment: Packed) -> vec4<f32> {
  return bitcast<vec4<f32>>(vec4<u32>(moment.x << 16u, moment.x & 0xffff0000u, moment.y << 16u, moment.y & 0xffff0000u));
}

// Adds a fraction of the last place kept, uniform in [0, 1), and cuts.
fn packedLow(values: vec4<f32>, noise: vec4<u32>) -> Packed {
  let bits = bitcast<vec4<u32>>(values) + (noise & vec4<u32>(0xffffu));
  return vec2<u32>((bits.x >> 16u) | (bits.y & 0xffff0000u), (bits.z >> 16u) | (bits.w & 0xffff0000u));
}

fn packedHigh(values: vec4<f32>, noise: vec4<u32>) -> Packed {
  return packedLow(values, noise >> vec4<u32>(16u));
}
