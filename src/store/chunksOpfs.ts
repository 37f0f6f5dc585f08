/** Owns where a browser profile keeps chunks of checkpoints: files of the origin's private file system. */
import { cacheChunks, type CacheLimits, type ChunkCache, type ChunkFolder } from './chunks.ts'

const FOLDER = 'chunks'
/** What the file system answers for a file that another Worker is just filling. */
const UNDER_WAY = ['NotFoundError', 'NoModificationAllowedError']

/** Known to dedicated Workers alone. */
interface WorkerFileHandle extends FileSystemFileHandle {
  createSyncAccessHandle(): Promise<{
    read(into: Uint8Array, at: { at: number }): number
    write(bytes: Uint8Array, at: { at: number }): number
    close(): void
  }>
}

/** For a dedicated Worker; one at a time. */
export function browserChunks(limits?: CacheLimits): ChunkCache {
  return cacheChunks(openFolder, limits)
}

/** @throws DOMException where the browser keeps nothing, in some private windows */
async function openFolder(): Promise<ChunkFolder> {
  const root = await navigator.storage.getDirectory()
  const folder = await root.getDirectoryHandle(FOLDER, { create: true })
  return {
    async list() {
      const found: { hash: string; bytes: number; usedAt: number }[] = []
      for await (const handle of folder.values()) {
        // A reloaded page's last Worker may still be at a file: gone for the moment in which the filled one takes its place, or
        // locked. Such a file is left to it; the others are here all the same.
        try {
          const { size, lastModified } = await (handle as FileSystemFileHandle).getFile()
          // Empty where a Worker ended between naming the file and filling it.
          if (size === 0) await folder.removeEntry(handle.name)
          else found.push({ hash: handle.name, bytes: size, usedAt: lastModified })
        } catch (caught) {
          if (!UNDER_WAY.includes((caught as DOMException).name)) throw caught
        }
      }
      return found
    },
    room: async () => (await navigator.storage.estimate()).quota ?? 0,
    async read(hash) {
      const file = await (await folder.getFileHandle(hash)).getFile()
      return new Uint8Array(await file.arrayBuffer())
    },
    async write(hash, bytes) {
      const handle = await folder.getFileHandle(hash, { create: true })
      // Fills another file, which takes this one's place with `close`.
      const stream = await handle.createWritable()
      try {
        await stream.write(bytes)
        await stream.close()
        return true
      } catch (caught) {
        await stream.abort().catch(() => undefined)
        await folder.removeEntry(hash)
        if ((caught as DOMException).name === 'QuotaExceededError') return false
        throw caught
      }
    },
    async touch(hash) {
      // Nothing sets the time of a file but a change: its first byte is written again. (In a private window's memory not even
      // that does: there, the next visit goes by the order of writing.)
      const file = await ((await folder.getFileHandle(hash)) as WorkerFileHandle).createSyncAccessHandle()
      try {
        const first = new Uint8Array(1)
        file.read(first, { at: 0 })
        file.write(first, { at: 0 })
      } finally {
        file.close()
      }
    },
    remove: (hash) => folder.removeEntry(hash),
  }
}
