/** Owns the two things Skein writes into a WGSL text before it is compiled: constants and unrolled loops. */

/**
 * Puts values for `{{NAME}}` marks into a WGSL text, then unrolls. Text and not override constants: a workgroup array
 * sized by an override constant is broken in Safari. An unrolled loop is written
 *
 *     //:for i 4          or          //:for c x y z w
 *     let a_${i} = A[${i}u];
 *     //:end
 *
 * Loops nest. Accumulators have to be unrolled by hand or by this: as an indexed array they leave the registers.
 */
export function template(source: string, constants: Readonly<Record<string, string | number>>): string {
  const filled = source.replace(/\{\{(\w+)\}\}/g, (_, name: string) => {
    const value = constants[name]
    if (value === undefined) throw new RangeError(`The shader needs a value for ${name}.`)
    return String(value)
  })
  return filled.includes('//:for') ? unroll(filled.split('\n')).join('\n') : filled
}

const START = /^\s*\/\/:for (\w+) (.+?)\s*$/
const END = /^\s*\/\/:end\s*$/

function unroll(lines: readonly string[]): string[] {
  const out: string[] = []
  for (let at = 0; at < lines.length; at++) {
    const start = START.exec(lines[at]!)
    if (!start) {
      out.push(lines[at]!)
      continue
    }
    const end = endOf(lines, at)
    const body = lines.slice(at + 1, end)
    for (const value of valuesOf(start[2]!)) {
      // The outer loop fills its mark first, so that an inner bound may depend on it.
      out.push(...unroll(body.map((line) => line.replaceAll(`\${${start[1]!}}`, value))))
    }
    at = end
  }
  return out
}

function endOf(lines: readonly string[], start: number): number {
  let depth = 0
  for (let at = start; at < lines.length; at++) {
    if (START.test(lines[at]!)) depth++
    if (END.test(lines[at]!) && --depth === 0) return at
  }
  throw new RangeError(`No //:end for ${lines[start]!.trim()}`)
}

function valuesOf(text: string): string[] {
  if (/^\d+$/.test(text)) return Array.from({ length: Number(text) }, (_, i) => String(i))
  return text.split(/\s+/)
}
