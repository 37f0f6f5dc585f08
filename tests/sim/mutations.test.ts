/** Proves that the simulation sees it when a guard of the protocol is gone. */
import { describe, expect, it } from 'vitest'
import { missed, MUTATIONS } from './mutations.ts'

describe('a protocol without one of its guards', () => {
  it.each(MUTATIONS)('is found out: $guard', (mutation) => {
    expect(missed(mutation)).not.toBeNull()
  })
})
