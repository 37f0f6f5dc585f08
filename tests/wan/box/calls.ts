/** Owns the calls that wait for an answer from elsewhere: each has a deadline, and all end with what was to answer. */

interface Waiting {
  readonly name: string
  readonly resolve: (value: unknown) => void
  readonly reject: (error: Error) => void
  readonly timer: ReturnType<typeof setTimeout>
}

/** `who`: what answers, for the errors. */
export class Calls {
  readonly #who: string
  readonly #waiting = new Map<number, Waiting>()
  #count = 0
  #ended: string | null = null

  constructor(who: string) {
    this.#who = who
  }

  /**
   * Resolves with what `answer` is given for the id that `send` is told.
   * @throws Error naming `who` and the call where no answer comes within `deadlineMs`, or none can come any more
   */
  call(name: string, deadlineMs: number, send: (id: number) => void): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#ended !== null) return reject(new Error(`${this.#who}: ${name} cannot be answered, ${this.#ended}.`))
      const id = this.#count++
      const late = () => this.#take(id)?.reject(new Error(`${this.#who}: ${name} had no answer in ${deadlineMs} ms.`))
      this.#waiting.set(id, { name, resolve, reject, timer: setTimeout(late, deadlineMs) })
      send(id)
    })
  }

  answer(id: number, value: unknown): void {
    this.#take(id)?.resolve(value)
  }

  fail(id: number, said: string): void {
    const waiting = this.#take(id)
    waiting?.reject(new Error(`${this.#who}: ${waiting.name} failed: ${said}`))
  }

  /** Nothing is answered any more; `why` completes a sentence. */
  end(why: string): void {
    this.#ended ??= why
    for (const id of [...this.#waiting.keys()]) {
      const waiting = this.#take(id)!
      waiting.reject(new Error(`${this.#who}: ${waiting.name} was not answered, ${this.#ended}.`))
    }
  }

  #take(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id)
    clearTimeout(waiting?.timer)
    this.#waiting.delete(id)
    return waiting
  }
}
