/** Owns a model of one product in the ONNX format (onnx.proto of ONNX 1.16: IR version 8, operator set 13). */

type Field = readonly [number: number, value: number | string | Uint8Array]

const utf8 = new TextEncoder()

function varint(value: number): number[] {
  const bytes: number[] = []
  let rest = value
  while (rest > 127) {
    bytes.push((rest % 128) + 128)
    rest = Math.floor(rest / 128)
  }
  return [...bytes, rest]
}

/** A protocol buffer message: numbers as varints, text and messages with their length before them. */
function message(...fields: readonly Field[]): Uint8Array {
  const bytes = fields.flatMap(([number, value]) => {
    if (typeof value === 'number') return [...varint(number * 8), ...varint(value)]
    const content = typeof value === 'string' ? utf8.encode(value) : value
    return [...varint(number * 8 + 2), ...varint(content.length), ...content]
  })
  return Uint8Array.from(bytes)
}

const FLOAT = 1
const INT_ATTRIBUTE = 2

/** ValueInfoProto of an f32 tensor. */
function tensorInfo(name: string, dims: readonly number[]): Uint8Array {
  const shape = message(...dims.map((dim): Field => [1, message([1, dim])]))
  return message([1, name], [2, message([1, message([1, FLOAT], [2, shape])])])
}

const flag = (name: string): Field => [5, message([1, name], [3, 1], [20, INT_ATTRIBUTE])]

/** c = a·b as MatMul; Gemm where one of them lies transposed. */
export function productModel(
  form: 'nn' | 'nt' | 'tn',
  shapes: { a: readonly number[]; b: readonly number[]; c: readonly number[] },
): Uint8Array {
  const node = message(
    [1, 'a'],
    [1, 'b'],
    [2, 'c'],
    [3, 'product'],
    [4, form === 'nn' ? 'MatMul' : 'Gemm'],
    ...(form === 'tn' ? [flag('transA')] : []),
    ...(form === 'nt' ? [flag('transB')] : []),
  )
  const graph = message(
    [1, node],
    [2, 'graph'],
    [11, tensorInfo('a', shapes.a)],
    [11, tensorInfo('b', shapes.b)],
    [12, tensorInfo('c', shapes.c)],
  )
  return message([1, 8], [7, graph], [8, message([1, ''], [2, 13])])
}
