/** Proves that a link outlives a change of the network under it: another connection carries what the old ones had not. */
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { resultInside } from './box/enter.ts'
import { boxOrSkip } from './boxOrSkip.ts'
import type { Roaming } from './programs/roaming.ts'

describe.skipIf(boxOrSkip())('a home that gets another address', () => {
  it('loses no frame, gets none twice, and is not told of a lost link', async () => {
    const seen = await resultInside<Roaming>(path.join(import.meta.dirname, 'programs', 'roaming.ts'))
    const sizes = Array.from({ length: seen.sent }, (_, frame) => 40_000 + frame)
    expect(seen.arrived.toSorted((x, y) => x - y)).toEqual(sizes)
    expect(seen.lost).toBe(0)
    expect(seen.recoveredMs).not.toBeNull()
  })
})
