/** Owns a stage's access to the tokens of its dataset: fetched by range, kept while they fit. */
import { evalWindowStarts, trainWindowStart } from '../formats/windows.ts'
import type { Assignment } from '../protocol/control.ts'
import { fetchBytes } from './transfer.ts'

/** Tokens of one cached piece: 256 KiB of u16. */
const PIECE_TOKENS = 131_072
/** A dataset of at most so many pieces is kept whole; of a larger one only what a window needs is fetched. */
const PIECES_KEPT = 64

export interface Windows {
  /** Token ids of all sequences of the microbatch, one after another. */
  inputs: Uint32Array
  /** The same, one token further on. */
  targets: Uint32Array
}

export class TokenSource {
  readonly #assignment: Assignment
  readonly #url: string
  readonly #signal: AbortSignal
  readonly #pieces = new Map<number, Promise<Uint16Array>>()
  #evalStarts: number[] | null = null

  constructor(apiUrl: string, assignment: Assignment, signal: AbortSignal) {
    this.#assignment = assignment
    this.#url = `${apiUrl}/datasets/${assignment.dataset.id}/tokens`
    this.#signal = signal
  }

  /** A pure function of the run's seed, the step and the microbatch, whoever asks. */
  async train(step: number, microbatch: number): Promise<Windows> {
    const { config, dataset } = this.#assignment
    const { blockSize } = config.model
    const starts = Array.from({ length: config.microbatch }, (_, i) =>
      trainWindowStart(config.seed, step, microbatch * config.microbatch + i, dataset.trainTokens, blockSize),
    )
    return this.#windows(starts)
  }

  /** The last microbatch of the held-out tail may have fewer sequences than the others. */
  async evaluation(microbatch: number): Promise<Windows> {
    const { config, dataset } = this.#assignment
    this.#evalStarts ??= evalWindowStarts(dataset, config.model.blockSize, config.evalTokens)
    const first = microbatch * config.microbatch
    return this.#windows(this.#evalStarts.slice(first, first + config.microbatch))
  }

  async #windows(starts: readonly number[]): Promise<Windows> {
    const { blockSize } = this.#assignment.config.model
    const inputs = new Uint32Array(starts.length * blockSize)
    const targets = new Uint32Array(starts.length * blockSize)
    const windows = await Promise.all(starts.map((start) => this.#tokens(start, blockSize + 1)))
    windows.forEach((window, i) => {
      inputs.set(window.subarray(0, blockSize), i * blockSize)
      targets.set(window.subarray(1), i * blockSize)
    })
    return { inputs, targets }
  }

  async #tokens(start: number, length: number): Promise<Uint16Array> {
    const { tokens } = this.#assignment.dataset
    if (tokens > PIECE_TOKENS * PIECES_KEPT) return this.#fetch(start, length)
    const window = new Uint16Array(length)
    for (let at = start; at < start + length;) {
      const piece = Math.floor(at / PIECE_TOKENS)
      const held = await this.#piece(piece)
      const from = at - piece * PIECE_TOKENS
      const part = held.subarray(from, from + start + length - at)
      window.set(part, at - start)
      at += part.length
    }
    return window
  }

  #piece(index: number): Promise<Uint16Array> {
    const known = this.#pieces.get(index)
    if (known) return known
    const start = index * PIECE_TOKENS
    const fetched = this.#fetch(start, Math.min(PIECE_TOKENS, this.#assignment.dataset.tokens - start))
    this.#pieces.set(index, fetched)
    fetched.catch(() => this.#pieces.delete(index))
    return fetched
  }

  async #fetch(start: number, length: number): Promise<Uint16Array> {
    const headers = { Range: `bytes=${2 * start}-${2 * (start + length) - 1}` }
    const bytes = await fetchBytes(this.#url, { headers, signal: this.#signal }, 2 * length)
    return new Uint16Array(bytes.buffer)
  }
}
