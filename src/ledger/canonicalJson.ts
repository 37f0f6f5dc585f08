/** Owns the one text that a value of the ledger has, so that its hash means the value. */
import { fail } from '../protocol/errors.ts'

export type Canonical = string | number | null | readonly Canonical[] | { readonly [key: string]: Canonical }

/**
 * JSON with sorted keys and no spaces; the subset of RFC 8785 without fractions, which other languages write in other ways.
 * @throws SkeinError `ledger.not_canonical` for anything but strings, whole numbers, null, lists and objects
 */
export function canonicalJson(value: Canonical): string {
  if (typeof value === 'string') return JSON.stringify(value)
  if (typeof value === 'number' && Number.isSafeInteger(value) && !Object.is(value, -0)) return String(value)
  if (value === null) return 'null'
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  if (typeof value !== 'object')
    return fail(
      'ledger.not_canonical',
      `The ledger cannot hold ${String(value).slice(0, 80)}.`,
      'Use whole numbers and strings.',
    )
  const record = value as { readonly [key: string]: Canonical }
  let text = '{'
  for (const key of Object.keys(record).sort())
    text += `${text === '{' ? '' : ','}${JSON.stringify(key)}:${canonicalJson(record[key]!)}`
  return `${text}}`
}
