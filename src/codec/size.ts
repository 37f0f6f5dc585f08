/** Owns the size of an encoded boundary tensor, which both ends and the server know beforehand. */
import type { CodecName } from '../protocol/runConfig.ts'

/**
 * Bytes of a [rows, columns] tensor, always a multiple of 4. `f32`: the values. `f16`: pairs of halves. `int8`: one f32
 * scale a row, then the rows, each padded to whole words.
 */
export function encodedBytes(codec: CodecName, rows: number, columns: number): number {
  if (codec === 'f32') return rows * columns * 4
  if (codec === 'f16') return Math.ceil((rows * columns) / 2) * 4
  return rows * 4 + rows * Math.ceil(columns / 4) * 4
}

/** Rows of an encoded tensor of that many bytes; null if no whole number of rows has that size. */
export function encodedRows(codec: CodecName, bytes: number, columns: number): number | null {
  const rows = Math.floor(
    bytes / (codec === 'f32' ? columns * 4 : codec === 'f16' ? columns * 2 : encodedBytes(codec, 1, columns)),
  )
  return rows > 0 && encodedBytes(codec, rows, columns) === bytes ? rows : null
}
