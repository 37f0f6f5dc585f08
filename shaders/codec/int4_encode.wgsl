// Absmax int4: every 32 values of a row (its last group may be shorter) become a scale, absmax / 7 as a half, and four-bit two's
// complement numbers, eight a word. The scales of all groups come first, two a word. p.scale, a power of two, multiplies the
// values so that the scales of small gradients are normal halves. One invocation does the two groups that share a word.
struct Params {
  rows: u32,
  columns: u32,
  scale: f32,
  counter: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> values: array<f32>;
@group(0) @binding(2) var<storage, read_write> encoded: array<u32>;

const GROUP = 32u;

struct Place {
  row: u32,
  first: u32, // column
  end: u32,
}

fn placeOf(group: u32) -> Place {
  let groups = (p.columns + GROUP - 1u) / GROUP;
  let first = group % groups * GROUP;
  return Place(group / groups, first, min(first + GROUP, p.columns));
}

fn unitOf(place: Place) -> f32 {
  var largest = 0.0;
  for (var c = place.first; c < place.end; c++) {
    largest = max(largest, abs(values[place.row * p.columns + c]));
  }
  return min(largest * p.scale / 7.0, 65504.0);
}

fn pack(place: Place, unit: f32, firstWord: u32) {
  // Halves below 2^-24 are zero, and so is their group.
  let perUnit = select(p.scale / max(unit, 1e-8), 0.0, unit == 0.0);
  var at = firstWord + place.row * ((p.columns + 7u) / 8u) + place.first / 8u;
  for (var c = place.first; c < place.end; c += 8u) {
    var word = 0u;
    for (var n = c; n < min(c + 8u, place.end); n++) {
      let i = place.row * p.columns + n;
      let q = i32(clamp(rounded(values[i] * perUnit, i, p.counter), -7.0, 7.0));
      word |= (bitcast<u32>(q) & 15u) << (4u * (n - c));
    }
    encoded[at] = word;
    at++;
  }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * count.x) * 64u + lane;
  let groups = p.rows * ((p.columns + GROUP - 1u) / GROUP);
  let words = (groups + 1u) / 2u;
  if (i >= words) {
    return;
  }
  let low = placeOf(2u * i);
  let high = placeOf(2u * i + 1u);
  let both = 2u * i + 1u < groups;
  var units = vec2<f32>(unitOf(low), 0.0);
  if (both) {
    units.y = unitOf(high);
  }
  let packed = pack2x16float(units);
  encoded[i] = packed;
  // As the decoder has them.
  units = unpack2x16float(packed);
  pack(low, units.x, words);
  if (both) {
    pack(high, units.y, words);
  }
}
