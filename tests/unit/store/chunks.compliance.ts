/**
 * Owns what every cache of chunks must do, wherever its files lie. The cases know no test runner: Node runs them under
 * Vitest, a browser's Worker for Playwright.
 */
import { sha256, type CacheLimits, type ChunkCache } from '../../../src/store/chunks.ts'

/** An empty place for files, and how to look behind the cache's back. */
export interface ChunkPlace {
  /** A cache over the same files: what the next process, or the next Worker, would see. */
  open(limits?: CacheLimits): ChunkCache
  /** Hashes of the files there. */
  names(): Promise<string[]>
  overwrite(hash: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>
}

const SIZE = 5000

interface Chunk {
  hash: string
  bytes: Uint8Array<ArrayBuffer>
}

async function chunk(seed: number, size = SIZE): Promise<Chunk> {
  const bytes = Uint8Array.from({ length: size }, (_, i) => (i * 31 + seed * 7) ^ (i >> 5))
  return { hash: await sha256(bytes), bytes }
}

function check(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(`not so: ${what}`)
}

async function put(cache: ChunkCache, ...chunks: Chunk[]): Promise<void> {
  for (const { hash, bytes } of chunks) await cache.put(hash, bytes)
}

/** Which of them the cache gives, whole; one that it does not give has no file either. */
async function given(place: ChunkPlace, cache: ChunkCache, chunks: readonly Chunk[]): Promise<boolean[]> {
  const found = []
  for (const { hash, bytes } of chunks) {
    const got = await cache.get(hash)
    if (got) {
      check(got.length === bytes.length && got.every((byte, i) => byte === bytes[i]), 'the bytes are those put')
      check(got.buffer.byteLength === got.length, 'the buffer is their own')
    }
    check((await place.names()).includes(hash) === (got !== null), 'there is a file for what is given alone')
    found.push(got !== null)
  }
  return found
}

async function expectGiven(place: ChunkPlace, cache: ChunkCache, chunks: readonly Chunk[], expected: boolean[]) {
  const found = await given(place, cache, chunks)
  check(found.join() === expected.join(), `given are ${found.join()}, expected ${expected.join()}`)
}

/** Files' times may be as coarse as this. */
const later = () => new Promise((resolve) => setTimeout(resolve, 30))

export const chunkCacheCases: [string, (place: ChunkPlace) => Promise<void>][] = [
  [
    'gives back what was put, also after it was opened anew, and null for anything else',
    async (place) => {
      const [a, b, c] = [await chunk(1), await chunk(2, 1), await chunk(3)]
      const cache = place.open()
      await expectGiven(place, cache, [a, b, c], [false, false, false])
      await put(cache, a, b)
      await expectGiven(place, cache, [a, b, c], [true, true, false])
      await expectGiven(place, place.open(), [a, b, c], [true, true, false])
    },
  ],
  [
    'takes many chunks at once',
    async (place) => {
      const chunks = await Promise.all(Array.from({ length: 12 }, (_, i) => chunk(i)))
      const cache = place.open()
      await Promise.all([...chunks, ...chunks].map(({ hash, bytes }) => cache.put(hash, bytes)))
      const all = chunks.map(() => true)
      await expectGiven(place, cache, chunks, all)
      await expectGiven(place, place.open(), chunks, all)
    },
  ],
  [
    'does not believe a torn or damaged file, deletes it, and takes the chunk again',
    async (place) => {
      const [torn, bent, empty, whole] = [await chunk(1), await chunk(2), await chunk(3), await chunk(4)]
      await put(place.open(), torn, bent, empty, whole)
      await place.overwrite(torn.hash, torn.bytes.slice(0, SIZE / 2))
      await place.overwrite(
        bent.hash,
        bent.bytes.map((byte, i) => (i === 77 ? byte ^ 1 : byte)),
      )
      await place.overwrite(empty.hash, new Uint8Array(0))
      const cache = place.open()
      const chunks = [torn, bent, empty, whole]
      await expectGiven(place, cache, chunks, [false, false, false, true])
      await put(cache, torn, bent, empty)
      await expectGiven(place, cache, chunks, [true, true, true, true])
    },
  ],
  [
    'lets the least recently used go first, by the use of every visit',
    async (place) => {
      const [a, b, c, d, e] = [await chunk(1), await chunk(2), await chunk(3), await chunk(4), await chunk(5)]
      const large = await chunk(6, 4 * SIZE)
      const limits = { mostBytes: 3 * SIZE }
      const first = place.open(limits)
      for (const one of [a, b, c]) {
        await put(first, one)
        await later()
      }
      await first.get(a.hash)
      await put(first, d)
      for (const [one, there] of [
        [b, false],
        [c, true],
        [d, true],
      ] as const) {
        await expectGiven(place, first, [one], [there])
        await later()
      }
      await first.get(a.hash)
      // Opened too early, the next visit would miss the time of that use; this put waits for it.
      await put(first, large)
      const second = place.open(limits)
      await put(second, e)
      await expectGiven(place, second, [c, a, d, e], [false, true, true, true])
    },
  ],
  [
    'counts a chunk once however often it is put, and leaves out one that is larger than the cache',
    async (place) => {
      const [a, b, large] = [await chunk(1), await chunk(2), await chunk(3, 2 * SIZE + 1)]
      const cache = place.open({ mostBytes: 2 * SIZE })
      await put(cache, a, a, a, b, large)
      await expectGiven(place, cache, [a, b, large], [true, true, false])
    },
  ],
  [
    'shrinks to a smaller limit',
    async (place) => {
      const chunks = await Promise.all([1, 2, 3, 4].map((seed) => chunk(seed)))
      for (const one of chunks) {
        await put(place.open(), one)
        await later()
      }
      const cache = place.open({ mostBytes: 2 * SIZE })
      await cache.put(chunks[3]!.hash, chunks[3]!.bytes)
      await expectGiven(place, cache, chunks, [false, false, true, true])
    },
  ],
  [
    'makes no file for a name that is no hash',
    async (place) => {
      const cache = place.open()
      await cache.put('../chunk', (await chunk(1)).bytes)
      check((await cache.get('../chunk')) === null, 'it is not given')
      check((await place.names()).length === 0, 'there is no file')
    },
  ],
]
