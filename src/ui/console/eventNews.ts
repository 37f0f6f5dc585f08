/** Owns what of a run's story is spoken to a screen reader: the newest sentence, never more than one in a while. */

/** A person hears a sentence to its end before the next one comes. */
const PAUSE_MS = 10_000

export class EventNews {
  #heard: number | null = null
  #spokenAt = -Infinity
  #spoken = ''

  /**
   * @param told how many events the run has had; what the page opens with is no news
   * @param newest the text of the last of them
   * @returns what the live region says now
   */
  observe(told: number, newest: string, now: number): string {
    this.#heard ??= told
    const news = told - this.#heard
    if (news <= 0 || now - this.#spokenAt < PAUSE_MS) return this.#spoken
    this.#heard = told
    this.#spokenAt = now
    this.#spoken = news === 1 ? newest : `${news} new events. The latest: ${newest}`
    return this.#spoken
  }
}
