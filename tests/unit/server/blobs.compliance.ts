/** Owns what every blob store must do, wherever the bytes lie. */
import { createHash } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { BlobStore } from '../../../server/db/store.ts'

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

export function describeBlobs(name: string, open: () => Promise<{ blobs: BlobStore; clean(): Promise<void> }>): void {
  describe(`blobs: ${name}`, () => {
    let blobs: BlobStore
    let clean: () => Promise<void>
    beforeEach(async () => {
      ;({ blobs, clean } = await open())
    })
    afterEach(() => clean())

    const bytes = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 31) ^ (i >> 7))

    it('addresses bytes by their SHA-256 and brings them back', async () => {
      const hash = await blobs.put(bytes)
      expect(hash).toBe(sha256(bytes))
      expect(await blobs.has(hash)).toBe(true)
      expect(Buffer.compare(await blobs.get(hash), bytes)).toBe(0)
    })

    it('stores the same bytes once, also when many store them together', async () => {
      const hashes = await Promise.all(Array.from({ length: 8 }, () => blobs.put(bytes)))
      expect(new Set(hashes)).toEqual(new Set([sha256(bytes)]))
      expect(await blobs.put(bytes)).toBe(sha256(bytes))
      expect(Buffer.compare(await blobs.get(hashes[0]!), bytes)).toBe(0)
    })

    it('keeps nothing as well as something', async () => {
      const hash = await blobs.put(new Uint8Array(0))
      expect((await blobs.get(hash)).byteLength).toBe(0)
      expect((await blobs.getRange(hash, 0, 0)).byteLength).toBe(0)
    })

    it('stores a view without its surroundings', async () => {
      const hash = await blobs.put(bytes.subarray(10, 20))
      expect([...(await blobs.get(hash))]).toEqual([...bytes.subarray(10, 20)])
    })

    it('reads ranges, and refuses those that are not inside', async () => {
      const hash = await blobs.put(bytes)
      expect(Buffer.compare(await blobs.getRange(hash, 99_000, 1000), bytes.subarray(99_000))).toBe(0)
      expect((await blobs.getRange(hash, 100_000, 0)).byteLength).toBe(0)
      for (const [offset, length] of [
        [99_001, 1000],
        [-1, 5],
        [0, -1],
        [0.5, 1],
        [100_001, 0],
      ] as const) {
        await expect(blobs.getRange(hash, offset, length)).rejects.toMatchObject({ code: 'blob.range' })
      }
    })

    it('says what is missing, and takes no path for a hash', async () => {
      const absent = 'f'.repeat(64)
      expect(await blobs.has(absent)).toBe(false)
      await expect(blobs.get(absent)).rejects.toMatchObject({ code: 'blob.missing' })
      await expect(blobs.getRange(absent, 0, 1)).rejects.toMatchObject({ code: 'blob.missing' })
      for (const wrong of ['', '../../etc/passwd', 'F'.repeat(64), `${'a'.repeat(63)}/`]) {
        expect(await blobs.has(wrong)).toBe(false)
        await expect(blobs.get(wrong)).rejects.toMatchObject({ code: 'blob.missing' })
        await expect(blobs.getRange(wrong, 0, 1)).rejects.toMatchObject({ code: 'blob.missing' })
      }
    })
  })
}
