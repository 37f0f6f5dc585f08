/** Owns the pages' clock: one timer for every age and silence that is shown. */

class Now {
  /** Unix milliseconds, a second coarse. */
  ms = $state(Date.now())

  constructor() {
    setInterval(() => (this.ms = Date.now()), 1000)
  }
}

export const now = new Now()
