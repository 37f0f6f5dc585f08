/** Owns IEEE 754 halves without a GPU. */

const LARGEST_HALF = 65_504
/** The least exponent of a normal half; subnormals share its unit. */
const LEAST_EXPONENT = -14

/** The value of a half's bits. */
export function halfValue(bits: number): number {
  const exponent = (bits >>> 10) & 31
  const fraction = bits & 1023
  const sign = bits & 0x8000 ? -1 : 1
  if (exponent === 31) return fraction ? NaN : sign * Infinity
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25))
}

/** The half nearest to `x`, ties to even, clamped as the f16 codec clamps. */
export function roundedToHalf(x: number): number {
  const clamped = Math.max(-LARGEST_HALF, Math.min(LARGEST_HALF, x))
  const unit = 2 ** (Math.max(LEAST_EXPONENT, Math.floor(Math.log2(Math.abs(clamped) || 1))) - 10)
  const units = clamped / unit
  const low = Math.floor(units)
  const rest = units - low
  return (rest > 0.5 || (rest === 0.5 && low % 2 !== 0) ? low + 1 : low) * unit
}
