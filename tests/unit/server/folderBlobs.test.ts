/** Owns the proof that blobs in a folder comply, are verified, heal, and leave nothing half written. */
import { mkdtemp, readdir, rm, truncate, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openFolderBlobs } from '../../../server/checkpoints/folderBlobs.ts'
import { describeBlobs } from './blobs.compliance.ts'

describeBlobs('a folder', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'skein-blobs-'))
  return { blobs: await openFolderBlobs(folder), clean: () => rm(folder, { recursive: true }) }
})

describe('blob folder', () => {
  let folder: string
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'skein-blobs-'))
  })
  afterEach(() => rm(folder, { recursive: true }))

  it('finds what was damaged on disk, and heals it when the bytes come again', async () => {
    const blobs = await openFolderBlobs(folder)
    const bytes = Uint8Array.of(1, 2, 3, 4)
    const hash = await blobs.put(bytes)
    const path = join(folder, hash.slice(0, 2), hash.slice(2, 4), hash)
    for (const damage of [() => writeFile(path, Uint8Array.of(1, 2, 3, 5)), () => truncate(path, 2)]) {
      await damage()
      await expect(blobs.get(hash)).rejects.toMatchObject({ code: 'blob.corrupt' })
      await blobs.put(bytes)
      expect([...(await blobs.get(hash))]).toEqual([1, 2, 3, 4])
    }
  })

  it('clears abandoned writes when it opens, and leaves young ones and blobs alone', async () => {
    const hash = await (await openFolderBlobs(folder)).put(Uint8Array.of(9))
    await writeFile(join(folder, 'incoming', 'abandoned'), 'x')
    await utimes(join(folder, 'incoming', 'abandoned'), 1, 1)
    await writeFile(join(folder, 'incoming', 'young'), 'x')
    const again = await openFolderBlobs(folder)
    expect(await readdir(join(folder, 'incoming'))).toEqual(['young'])
    expect(await again.has(hash)).toBe(true)
  })

  it('leaves no temporary file behind after a write', async () => {
    const blobs = await openFolderBlobs(folder)
    await Promise.all(Array.from({ length: 10 }, (_, i) => blobs.put(Uint8Array.of(i))))
    expect(await readdir(join(folder, 'incoming'))).toEqual([])
  })

  it('says so when a blob cannot be stored', async () => {
    const blobs = await openFolderBlobs(folder)
    await rm(join(folder, 'incoming'), { recursive: true })
    await expect(blobs.put(Uint8Array.of(1))).rejects.toMatchObject({ code: 'blob.write' })
  })
})
