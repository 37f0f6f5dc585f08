/** Owns what an encoded boundary tensor says, read without a GPU: a claim is bytes, and its audit compares their values. */
import { encodedBytes } from '../codec/size.ts'
import type { CodecName } from '../protocol/runConfig.ts'

/** The value of an IEEE 754 half. */
function halfValue(bits: number): number {
  const exponent = (bits >>> 10) & 31
  const fraction = bits & 1023
  const sign = bits & 0x8000 ? -1 : 1
  if (exponent === 31) return fraction ? NaN : sign * Infinity
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25))
}

/**
 * The values [rows, columns] of an encoded tensor, as the codec's kernel decodes it.
 * @param scale what the encoder multiplied halves by (gradients are lifted; see `CodecKernels.encode`)
 * @throws RangeError where the bytes are not of that shape
 */
export function decodeBoundary(
  codec: CodecName,
  bytes: Uint8Array,
  { rows, columns }: { readonly rows: number; readonly columns: number },
  scale = 1,
): Float32Array<ArrayBuffer> {
  const due = encodedBytes(codec, rows, columns)
  if (bytes.byteLength !== due) throw new RangeError(`${bytes.byteLength} bytes of ${codec}, not ${due}.`)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const values = new Float32Array(rows * columns)
  if (codec === 'f32') {
    for (let i = 0; i < values.length; i++) values[i] = view.getFloat32(4 * i, true)
  } else if (codec === 'f16') {
    for (let i = 0; i < values.length; i++) values[i] = halfValue(view.getUint16(2 * i, true)) / scale
  } else {
    const stride = 4 * Math.ceil(columns / 4)
    for (let row = 0; row < rows; row++) {
      const unit = view.getFloat32(4 * row, true)
      for (let c = 0; c < columns; c++) {
        values[row * columns + c] = view.getInt8(4 * rows + row * stride + c) * unit
      }
    }
  }
  return values
}
