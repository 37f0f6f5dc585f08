/** Owns the reading of a `Range` header (RFC 9110, section 14), for one range of bytes. */

export type RangeAnswer =
  { kind: 'whole' } | { kind: 'unsatisfiable' } | { kind: 'part'; offset: number; length: number }

/** What to send of `size` bytes; headers that are no single byte range are ignored, as the RFC asks. */
export function readRange(header: string | undefined, size: number): RangeAnswer {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header?.trim() ?? '')
  if (!match || (match[1] === '' && match[2] === '')) return { kind: 'whole' }
  const [, first = '', last = ''] = match
  if (first === '') {
    const length = Math.min(Number(last), size)
    return length === 0 ? { kind: 'unsatisfiable' } : { kind: 'part', offset: size - length, length }
  }
  const offset = Number(first)
  const end = last === '' ? size - 1 : Math.min(Number(last), size - 1)
  if (last !== '' && Number(last) < offset) return { kind: 'whole' }
  if (offset >= size) return { kind: 'unsatisfiable' }
  return { kind: 'part', offset, length: end - offset + 1 }
}
