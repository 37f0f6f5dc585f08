/** Owns the reading of any range of a stage's flat vector from the chunks that it is kept in. */
import type { Chunk } from '../../src/protocol/control.ts'
import { fail } from '../../src/protocol/errors.ts'
import type { BlobStore } from '../db/store.ts'

/** Keeps the chunk that it read last, in which the next range mostly begins. */
export class ChunkReader {
  readonly #blobs: BlobStore
  #last = { hash: '', bytes: new Uint8Array(0) }

  constructor(blobs: BlobStore) {
    this.#blobs = blobs
  }

  /**
   * Little-endian f32 of `length` elements from `offset` on, piece by piece; a piece is good until the next is asked for.
   * @param chunks those of one vector of one stage, in any order
   * @throws SkeinError `checkpoint.incomplete` where no chunk has an element; `blob.missing`, `blob.corrupt`
   */
  async *bytes(chunks: readonly Chunk[], offset: number, length: number): AsyncGenerator<Uint8Array> {
    let position = offset
    const end = offset + length
    while (position < end) {
      const chunk = chunks.find((c) => c.offset <= position && position < c.offset + c.length)
      if (!chunk) return incomplete(`The checkpoint lacks element ${position} of a stage.`)
      if (this.#last.hash !== chunk.hash) {
        const bytes = await this.#blobs.get(chunk.hash)
        this.#last = { hash: chunk.hash, bytes }
      }
      const { bytes } = this.#last
      if (bytes.byteLength !== 4 * chunk.length)
        incomplete(`A chunk of ${chunk.length} elements has ${bytes.byteLength} bytes.`)
      const until = Math.min(end, chunk.offset + chunk.length)
      yield bytes.subarray(4 * (position - chunk.offset), 4 * (until - chunk.offset))
      position = until
    }
  }
}

const incomplete = (message: string) => fail('checkpoint.incomplete', message, 'Use an older checkpoint of the run.')
