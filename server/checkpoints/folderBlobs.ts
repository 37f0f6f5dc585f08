/** Owns blobs in a folder: one file a blob, named by its SHA-256, two levels of folders deep. */
import { createHash, randomUUID } from 'node:crypto'
import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fail, SkeinError } from '../../src/protocol/errors.ts'
import type { BlobStore } from '../db/store.ts'

/** Milliseconds after which an unfinished write has no writer any more. */
const ABANDONED_MS = 3_600_000

export const HASH_PATTERN = /^[0-9a-f]{64}$/

/** SHA-256 in lower-case hex: the address of a blob. */
export const hashOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

const missing = (hash: string) =>
  fail('blob.missing', `There is no blob ${hash}.`, 'Upload it again, or go on from an older checkpoint.')

const isAbsent = (caught: unknown) => (caught as NodeJS.ErrnoException | null)?.code === 'ENOENT'

/** Makes a rename survive a power cut; some platforms cannot sync a folder, and need not. */
async function syncFolder(path: string): Promise<void> {
  try {
    const folder = await open(path, 'r')
    await folder.sync().finally(() => folder.close())
  } catch (caught) {
    const code = (caught as NodeJS.ErrnoException).code ?? ''
    if (!['EISDIR', 'EPERM', 'EINVAL', 'ENOTSUP'].includes(code)) throw caught
  }
}

class FolderBlobs implements BlobStore {
  private readonly folder: string

  constructor(folder: string) {
    this.folder = folder
  }

  async put(bytes: Uint8Array): Promise<string> {
    const hash = hashOf(bytes)
    // A copy that rotted on disk is written again: the bytes to heal it are at hand.
    if (await this.intact(hash, bytes.byteLength)) return hash
    const parent = this.parentOf(hash)
    const temporary = join(this.folder, 'incoming', randomUUID())
    try {
      const file = await open(temporary, 'wx')
      try {
        await file.writeFile(bytes)
        await file.sync()
      } finally {
        await file.close()
      }
      await mkdir(parent, { recursive: true })
      await rename(temporary, join(parent, hash))
      await syncFolder(parent)
    } catch (caught) {
      await rm(temporary, { force: true })
      throw new SkeinError(
        {
          code: 'blob.write',
          message: `A blob of ${bytes.byteLength} bytes could not be stored: ${(caught as Error).message}`,
          remedy: 'Make room on the disk of the data folder and check that it is writable.',
        },
        { cause: caught },
      )
    }
    return hash
  }

  async has(hash: string): Promise<boolean> {
    if (!HASH_PATTERN.test(hash)) return false
    try {
      return (await stat(this.pathOf(hash))).isFile()
    } catch (caught) {
      if (isAbsent(caught)) return false
      throw caught
    }
  }

  async get(hash: string): Promise<Uint8Array<ArrayBuffer>> {
    if (!HASH_PATTERN.test(hash)) missing(hash.slice(0, 64))
    let bytes: Uint8Array<ArrayBuffer>
    try {
      bytes = new Uint8Array(await readFile(this.pathOf(hash)))
    } catch (caught) {
      if (isAbsent(caught)) return missing(hash)
      throw caught
    }
    if (hashOf(bytes) === hash) return bytes
    return fail(
      'blob.corrupt',
      `Blob ${hash} was damaged on disk.`,
      'Restore it from a backup or use an older checkpoint.',
    )
  }

  async getRange(hash: string, offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    if (!HASH_PATTERN.test(hash)) missing(hash.slice(0, 64))
    let file
    try {
      file = await open(this.pathOf(hash), 'r')
    } catch (caught) {
      if (isAbsent(caught)) return missing(hash)
      throw caught
    }
    try {
      const { size } = await file.stat()
      if (
        !Number.isSafeInteger(offset) ||
        !Number.isSafeInteger(length) ||
        offset < 0 ||
        length < 0 ||
        offset + length > size
      )
        fail(
          'blob.range',
          `Bytes ${offset} to ${offset + length} are not within ${size}.`,
          'Ask for a range inside the blob.',
        )
      const bytes = new Uint8Array(length)
      let done = 0
      while (done < length) {
        const { bytesRead } = await file.read(bytes, done, length - done, offset + done)
        if (bytesRead === 0) fail('blob.corrupt', `Blob ${hash} was cut short on disk.`, 'Restore it from a backup.')
        done += bytesRead
      }
      return bytes
    } finally {
      await file.close()
    }
  }

  private async intact(hash: string, size: number): Promise<boolean> {
    try {
      if ((await stat(this.pathOf(hash))).size !== size) return false
      return hashOf(await readFile(this.pathOf(hash))) === hash
    } catch (caught) {
      if (isAbsent(caught)) return false
      throw caught
    }
  }

  private parentOf(hash: string): string {
    return join(this.folder, hash.slice(0, 2), hash.slice(2, 4))
  }

  private pathOf(hash: string): string {
    return join(this.parentOf(hash), hash)
  }
}

/** Opens the folder, creating it as needed and clearing what interrupted writes left. */
export async function openFolderBlobs(folder: string): Promise<BlobStore> {
  const incoming = join(folder, 'incoming')
  await mkdir(incoming, { recursive: true })
  for (const name of await readdir(incoming)) {
    const path = join(incoming, name)
    const age = Date.now() - (await stat(path)).mtimeMs
    // A young one may belong to another server that shares the folder.
    if (age > ABANDONED_MS) await rm(path, { force: true })
  }
  return new FolderBlobs(folder)
}
