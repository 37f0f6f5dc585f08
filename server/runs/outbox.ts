/** Owns the order in which decisions are carried out: what has to be durable comes first, and nothing else waits for a disk. */

/** Milliseconds that work under way, such as reading a checkpoint back, gets to finish at the end. */
const GRACE_MS = 5000

/** One command. What it returns is waited for before the command after it; whoever returns nothing is not. */
export interface Task {
  /** The run and the node that it is about: it overtakes nothing that is about either. */
  readonly keys: readonly string[]
  perform(): Promise<void> | void
}

export class Outbox {
  /** By run and node: the last decision about it that is not carried out yet. */
  readonly #held = new Map<string, Promise<void>>()
  /** By run: its last write. */
  readonly #writes = new Map<string, Promise<unknown>>()
  /** What takes long and is waited for by nobody but the end. */
  readonly #aside = new Set<Promise<void>>()

  /** Carries out one decision: at once, as far as it neither waits for a write nor follows a decision that does. */
  carryOut(tasks: readonly Task[]): void {
    const before = new Set<Promise<void>>()
    if (this.#held.size > 0)
      for (const { keys } of tasks)
        for (const key of keys) {
          const held = this.#held.get(key)
          if (held) before.add(held)
        }
    let next = 0
    let wait: Promise<unknown> | void = before.size > 0 ? Promise.all(before) : undefined
    while (!wait && next < tasks.length) wait = tasks[next++]!.perform()
    if (wait) this.#hold(tasks, next, wait)
  }

  /** Writes of one run come one after another, in the order of the calls; a failed one does not hold up the next. */
  write<T>(runId: string, write: () => Promise<T>): Promise<T> {
    const result = (this.#writes.get(runId) ?? Promise.resolve()).then(write)
    const done: Promise<unknown> = result
      .catch(() => {})
      .then(() => {
        if (this.#writes.get(runId) === done) this.#writes.delete(runId)
      })
    this.#writes.set(runId, done)
    return result
  }

  /** Keeps hold of work that no decision waits for; it may write in its course, and does not reject. */
  aside(work: Promise<void>): void {
    this.#aside.add(work)
    void work.finally(() => this.#aside.delete(work))
  }

  /** Until nothing is under way any more, neither held decisions nor work aside nor what either writes, or `GRACE_MS` are over. */
  async drained(): Promise<void> {
    const late = new AbortController()
    const over = new Promise((resolve) => late.signal.addEventListener('abort', resolve))
    const timer = setTimeout(() => late.abort(), GRACE_MS)
    while (!late.signal.aborted && this.#held.size + this.#writes.size + this.#aside.size > 0)
      await Promise.race([over, Promise.all([...this.#held.values(), ...this.#writes.values(), ...this.#aside])])
    clearTimeout(timer)
  }

  /** Until all that was decided about a run, or about anything, is carried out and written. */
  async settled(runId?: string): Promise<void> {
    if (runId === undefined) {
      await Promise.all([...this.#held.values()])
      await Promise.all([...this.#writes.values()])
    } else {
      await this.#held.get(runId)
      await this.#writes.get(runId)
    }
  }

  #hold(tasks: readonly Task[], next: number, wait: Promise<unknown>): void {
    const keys = new Set(tasks.flatMap((task) => task.keys))
    const done = this.#goOn(tasks, next, wait).then(() => {
      for (const key of keys) if (this.#held.get(key) === done) this.#held.delete(key)
    })
    for (const key of keys) this.#held.set(key, done)
  }

  async #goOn(tasks: readonly Task[], next: number, wait: Promise<unknown>): Promise<void> {
    await wait
    for (const task of tasks.slice(next)) await task.perform()
  }
}
