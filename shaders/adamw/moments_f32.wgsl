// How the moments lie in memory: as f32, four a vec4. Put before the kernels that read or write moments.
alias Packed = vec4<f32>;

fn noiseAt(element: u32, step: u32) -> vec4<u32> {
  return vec4<u32>(0u);
}

fn unpacked(moment: Packed) -> vec4<f32> {
  return moment;
}

fn packedLow(values: vec4<f32>, noise: vec4<u32>) -> Packed {
  return values;
}

fn packedHigh(values: vec4<f32>, noise: vec4<u32>) -> Packed {
  return values;
}
