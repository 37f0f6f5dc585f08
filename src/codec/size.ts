/** Owns the size of encoded numbers, which both ends and the server know beforehand. */

/** How numbers are encoded one by one or in groups; a run's codec says what the numbers are. */
export type NumberCodec = 'f32' | 'f16' | 'int8' | 'int4'

/** Numbers of a row that share a scale under `int4`. */
export const INT4_GROUP = 32

/**
 * Bytes of a [rows, columns] tensor, always a multiple of 4. `f32`: the values. `f16`: pairs of halves. `int8`: one f32
 * scale a row, then the rows, each padded to whole words. `int4`: one half as scale for each {@link INT4_GROUP} values of a
 * row, then the rows, each padded to whole words: 0.5625 bytes a value where the columns are whole groups.
 */
export function encodedBytes(codec: NumberCodec, rows: number, columns: number): number {
  if (codec === 'f32') return rows * columns * 4
  if (codec === 'f16') return Math.ceil((rows * columns) / 2) * 4
  if (codec === 'int8') return rows * 4 + rows * Math.ceil(columns / 4) * 4
  return Math.ceil((rows * Math.ceil(columns / INT4_GROUP)) / 2) * 4 + rows * Math.ceil(columns / 8) * 4
}

/** Bytes of a row beside the padding of the whole. */
function rowBytes(codec: NumberCodec, columns: number): number {
  if (codec === 'f16') return columns * 2
  if (codec === 'int4') return 2 * Math.ceil(columns / INT4_GROUP) + 4 * Math.ceil(columns / 8)
  return encodedBytes(codec, 1, columns)
}

/** Rows of an encoded tensor of that many bytes; null if no whole number of rows has that size. */
export function encodedRows(codec: NumberCodec, bytes: number, columns: number): number | null {
  const rows = Math.floor(bytes / rowBytes(codec, columns))
  return rows > 0 && encodedBytes(codec, rows, columns) === bytes ? rows : null
}
