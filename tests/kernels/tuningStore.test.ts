/** Proves the browser's store of kernel choices on the browser's own IndexedDB. */
import { describe, expect, it } from 'vitest'
import { browserTuning } from '../../src/store/tuning.ts'

// Node has none; the agent keeps a file instead, which has its own test.
describe.skipIf(typeof indexedDB === 'undefined')('IndexedDB', () => {
  it('keeps texts by key for the next visit', async () => {
    const name = `skein-tuning-${crypto.randomUUID()}`
    const store = browserTuning(name)
    expect(await store.load('one')).toBeNull()
    await store.save('one', 'first')
    await store.save('two', 'second')
    await store.save('one', 'third')
    const again = browserTuning(name)
    expect([await again.load('one'), await again.load('two')]).toEqual(['third', 'second'])
  })
})
