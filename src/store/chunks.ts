/** Owns the cache of checkpoint chunks on a device: named by their hash, believed only by it, the least recently used go first. */

const HASH = /^[0-9a-f]{64}$/
const MOST_BYTES = 2 * 1024 ** 3
/** Small chunks are many: so many files are listed in well under a second. */
const MOST_CHUNKS = 4096
/** Of what the device has room for. */
const SHARE_OF_ROOM = 0.25
/** A disk that takes longer for one chunk is no help to a download. */
const DEADLINE_MS = 20_000

/** Both calls come to an end and never reject: what cannot be cached is downloaded again. */
export interface ChunkCache {
  /** Bytes in a buffer of their own whose SHA-256 is `hash`; null when they are not here, damaged or out of reach. */
  get(hash: string): Promise<Uint8Array<ArrayBuffer> | null>
  /** Resolves once the bytes, which the caller has checked and does not change, are kept or given up. */
  put(hash: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>
}

/** For a device that keeps nothing. */
export const NO_CHUNKS: ChunkCache = { get: () => Promise.resolve(null), put: () => Promise.resolve() }

/** Where a cache lies: one file a chunk. May reject; whoever holds it alone changes it. */
export interface ChunkFolder {
  /** `usedAt` in any unit that grows with time. */
  list(): Promise<{ hash: string; bytes: number; usedAt: number }[]>
  /** Bytes the device has for such files in all, `held` of which are taken by those listed. */
  room(held: number): Promise<number>
  read(hash: string): Promise<Uint8Array<ArrayBuffer>>
  /** False when the device has no room for them. */
  write(hash: string, bytes: Uint8Array<ArrayBuffer>): Promise<boolean>
  /** Sets `usedAt` to now. */
  touch(hash: string): Promise<void>
  remove(hash: string): Promise<void>
}

export interface CacheLimits {
  mostBytes?: number
  deadlineMs?: number
}

export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('')
}

/** Opens the folder with the first use; where that is refused, nothing is kept. Takes up to 2 GiB or a quarter of the room. */
export function cacheChunks(
  open: () => Promise<ChunkFolder>,
  { mostBytes = MOST_BYTES, deadlineMs = DEADLINE_MS }: CacheLimits = {},
): ChunkCache {
  const openCache = async () => {
    const folder = await open()
    const found = (await folder.list()).filter(({ hash }) => HASH.test(hash))
    const held = found.reduce((sum, { bytes }) => sum + bytes, 0)
    const most = Math.min(mostBytes, SHARE_OF_ROOM * (await folder.room(held)))
    return new FolderChunks(folder, found, most, deadlineMs)
  }
  let opening: Promise<ChunkCache> | undefined
  const cache = () => (opening ??= within(deadlineMs, openCache()).catch(() => NO_CHUNKS))
  return {
    get: async (hash) => (await cache()).get(hash),
    put: async (hash, bytes) => (await cache()).put(hash, bytes),
  }
}

class FolderChunks implements ChunkCache {
  readonly #folder: ChunkFolder
  readonly #deadlineMs: number
  #mostBytes: number
  /** Sizes by hash, in the order of last use. */
  readonly #sizes = new Map<string, number>()
  #held = 0
  /** Changes of the folder, one after another; never rejects. */
  #changes: Promise<void> = Promise.resolve()
  /** The disk did not answer once: it is left alone, or every chunk would wait for it. */
  #stuck = false

  constructor(
    folder: ChunkFolder,
    found: readonly { hash: string; bytes: number; usedAt: number }[],
    mostBytes: number,
    deadlineMs: number,
  ) {
    this.#folder = folder
    this.#mostBytes = mostBytes
    this.#deadlineMs = deadlineMs
    for (const { hash, bytes } of [...found].sort((a, b) => a.usedAt - b.usedAt)) this.#add(hash, bytes)
    void this.#change(() => this.#makeRoom(0))
  }

  async get(hash: string): Promise<Uint8Array<ArrayBuffer> | null> {
    if (this.#stuck || !this.#sizes.has(hash)) return null
    const bytes = await this.#inTime(this.#folder.read(hash)).catch(() => null)
    if (this.#stuck) return null
    if (bytes && (await sha256(bytes)) === hash) {
      void this.#change(() => this.#use(hash))
      return bytes
    }
    await this.#change(() => this.#remove(hash))
    return null
  }

  put(hash: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    return this.#change(async () => {
      if (this.#sizes.has(hash)) return this.#use(hash)
      if (!HASH.test(hash) || bytes.byteLength === 0 || bytes.byteLength > this.#mostBytes) return
      await this.#makeRoom(bytes.byteLength)
      let written = await this.#folder.write(hash, bytes)
      if (!written) {
        // There is less room than was promised: from now on the cache makes do with what it has.
        this.#mostBytes = this.#held
        await this.#makeRoom(bytes.byteLength)
        written = this.#sizes.size > 0 && (await this.#folder.write(hash, bytes))
      }
      if (written) this.#add(hash, bytes.byteLength)
    })
  }

  #change(work: () => Promise<void>): Promise<void> {
    const changed = this.#changes.then(() => (this.#stuck ? undefined : this.#inTime(work()))).catch(() => undefined)
    this.#changes = changed
    return changed
  }

  #inTime<T>(answer: Promise<T>): Promise<T> {
    return within(this.#deadlineMs, answer, () => (this.#stuck = true))
  }

  async #makeRoom(bytes: number): Promise<void> {
    for (const hash of this.#sizes.keys()) {
      if (this.#held + bytes <= this.#mostBytes && this.#sizes.size < MOST_CHUNKS) return
      await this.#remove(hash)
    }
  }

  async #use(hash: string): Promise<void> {
    const bytes = this.#sizes.get(hash)
    if (bytes === undefined) return
    // At the end of the order.
    this.#sizes.delete(hash)
    this.#sizes.set(hash, bytes)
    await this.#folder.touch(hash)
  }

  #add(hash: string, bytes: number): void {
    this.#sizes.set(hash, bytes)
    this.#held += bytes
  }

  async #remove(hash: string): Promise<void> {
    this.#held -= this.#sizes.get(hash) ?? 0
    this.#sizes.delete(hash)
    // One that cannot be removed is found again by the next list.
    await this.#folder.remove(hash).catch(() => undefined)
  }
}

function within<T>(ms: number, answer: Promise<T>, late: () => void = () => {}): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const timer = setTimeout(() => {
      late()
      reject(new Error(`no answer within ${ms} ms`))
    }, ms)
    answer.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}
