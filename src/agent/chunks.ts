/** Owns where the agent keeps chunks of checkpoints: a folder in its state folder. */
import { mkdir, readdir, readFile, rename, rm, stat, statfs, utimes, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { cacheChunks, type CacheLimits, type ChunkCache, type ChunkFolder } from '../store/chunks.ts'

const UNFINISHED = '.new'
const FULL = ['ENOSPC', 'EDQUOT']

/** The state folder's lock sees to it that one agent uses it at a time. */
export function agentChunks(stateFolder: string, limits?: CacheLimits): ChunkCache {
  return cacheChunks(() => openFolder(path.join(stateFolder, 'chunks')), limits)
}

async function openFolder(folder: string): Promise<ChunkFolder> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const file = (hash: string) => path.join(folder, hash)
  return {
    async list() {
      const found: { hash: string; bytes: number; usedAt: number }[] = []
      for (const name of await readdir(folder)) {
        if (name.endsWith(UNFINISHED)) {
          await rm(file(name), { force: true })
          continue
        }
        const { size, mtimeMs } = await stat(file(name))
        found.push({ hash: name, bytes: size, usedAt: mtimeMs })
      }
      return found
    },
    async room(held) {
      const { bavail, bsize } = await statfs(folder)
      return held + bavail * bsize
    },
    // Small files come from a pool of Node's: a copy has a buffer of its own.
    read: async (hash) => new Uint8Array(await readFile(file(hash))),
    async write(hash, bytes) {
      const unfinished = file(hash) + UNFINISHED
      try {
        await writeFile(unfinished, bytes, { mode: 0o600 })
        await rename(unfinished, file(hash))
        return true
      } catch (caught) {
        await rm(unfinished, { force: true })
        if (FULL.includes((caught as NodeJS.ErrnoException).code ?? '')) return false
        throw caught
      }
    },
    async touch(hash) {
      const now = new Date()
      await utimes(file(hash), now, now)
    },
    remove: (hash) => rm(file(hash), { force: true }),
  }
}
