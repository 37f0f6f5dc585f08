/** Owns when a node is dialled, dialled again, and left to dial us. */
import { backoffMs } from './backoff.ts'
import { DIAL_DEADLINE_MS, REDIAL_FIRST_MS, REDIAL_LONGEST_MS, YIELD_MS } from './limits.ts'

/** A node to be connected to: hinted at, or with frames that wait for it. */
interface Contact {
  readonly since: number
  failures: number
  nextDialAt: number
  /** When a dial began that has not become a connection yet. */
  dialledAt: number | null
}

/** Both may dial at once, since neither knows of the other's dial; the greater id waits a moment. */
export class Dialling {
  readonly #contacts = new Map<string, Contact>()

  /** Forgets whoever is not wanted any more. */
  want(ids: ReadonlySet<string>, now: number): void {
    for (const id of this.#contacts.keys()) if (!ids.has(id)) this.#contacts.delete(id)
    for (const id of ids) {
      if (!this.#contacts.has(id)) this.#contacts.set(id, { since: now, failures: 0, nextDialAt: 0, dialledAt: null })
    }
  }

  /** `yields`: the other one is to dial first. */
  isDue(id: string, yields: boolean, now: number): boolean {
    const contact = this.#contacts.get(id)
    if (!contact || (contact.dialledAt !== null && now - contact.dialledAt < DIAL_DEADLINE_MS)) return false
    return now >= Math.max(contact.nextDialAt, contact.since + (yields ? YIELD_MS : 0))
  }

  dialled(id: string, now: number): void {
    const contact = this.#contacts.get(id)
    if (contact) contact.dialledAt = now
  }

  /** A dial has become a connection that is opening, or the broker swallowed it. */
  begun(id: string): void {
    const contact = this.#contacts.get(id)
    if (contact) contact.dialledAt = null
  }

  allBegun(): void {
    for (const contact of this.#contacts.values()) contact.dialledAt = null
  }

  succeeded(id: string): void {
    const contact = this.#contacts.get(id)
    if (contact) contact.failures = 0
  }

  failed(id: string, yields: boolean, now: number): void {
    const contact = this.#contacts.get(id)
    if (!contact) return
    contact.failures += 1
    const pause = backoffMs(contact.failures, REDIAL_FIRST_MS, REDIAL_LONGEST_MS)
    contact.nextDialAt = now + pause + (yields ? YIELD_MS : 0)
  }

  clear(): void {
    this.#contacts.clear()
  }
}
