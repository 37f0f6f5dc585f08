/** Owns the loud word that this machine can hold no box. */
import { whyNoBox } from './box/enter.ts'

let reason: string | null | undefined

/** True where the tests of the box are to be skipped; then it has said why, once. */
export function boxOrSkip(): boolean {
  if (reason === undefined) {
    reason = whyNoBox()
    if (reason) console.warn(`\n  SKIPPED: no network in namespaces can be made on this machine: ${reason}.\n`)
  }
  return reason !== null
}
