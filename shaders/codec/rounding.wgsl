// How integer codecs round; put before their encoders. To the nearest where `counter` is 0. Elsewhere stochastically (Gupta et
// al. 2015), up with the probability of what is cut off, so that the mean over many gradients is the gradient: by noise that
// is a pure function of the element's place and the counter, alike on every GPU.

// PCG (O'Neill 2014; Jarzynski & Olano 2020, "Hash functions for GPU rendering").
fn pcg(v: u32) -> u32 {
  let state = v * 747796405u + 2891336453u;
  let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
  return (word >> 22u) ^ word;
}

fn rounded(x: f32, element: u32, counter: u32) -> f32 {
  if (counter == 0u) {
    return round(x);
  }
  return floor(x + f32(pcg(pcg(element) ^ counter) >> 8u) / 16777216.0);
}
