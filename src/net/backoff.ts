/** Owns the pause before a next try. */

/** Milliseconds to wait after `failures` failures in a row: doubles from `first` up to `longest`. */
export function backoffMs(failures: number, first: number, longest: number): number {
  return failures <= 0 ? 0 : Math.min(longest, first * 2 ** Math.min(failures - 1, 30))
}
