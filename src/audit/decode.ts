/** Owns what an encoded boundary tensor says, read without a GPU: a claim is bytes, and its audit compares their values. */
import { halfValue } from '../codec/half.ts'
import { encodedBytes, INT4_GROUP } from '../codec/size.ts'
import type { NumberCodec } from '../codec/size.ts'

/**
 * The values [rows, columns] of an encoded tensor, as the codec's kernel decodes it.
 * @param scale what the encoder multiplied halves by (gradients are lifted; see `GradientCoding`)
 * @throws RangeError where the bytes are not of that shape
 */
export function decodeBoundary(
  codec: NumberCodec,
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
  } else if (codec === 'int8') {
    const stride = 4 * Math.ceil(columns / 4)
    for (let row = 0; row < rows; row++) {
      const unit = view.getFloat32(4 * row, true)
      for (let c = 0; c < columns; c++) {
        values[row * columns + c] = view.getInt8(4 * rows + row * stride + c) * unit
      }
    }
  } else {
    const groups = Math.ceil(columns / INT4_GROUP)
    const start = 4 * Math.ceil((rows * groups) / 2)
    const stride = 4 * Math.ceil(columns / 8)
    for (let row = 0; row < rows; row++) {
      for (let c = 0; c < columns; c++) {
        const unit = halfValue(view.getUint16(2 * (row * groups + Math.floor(c / INT4_GROUP)), true))
        const pair = view.getUint8(start + row * stride + (c >>> 1))
        const number = ((c & 1 ? pair >>> 4 : pair & 15) << 28) >> 28
        values[row * columns + c] = (number * unit) / scale
      }
    }
  }
  return values
}
