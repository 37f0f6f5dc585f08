/** Owns the volunteers of a disturbed run: who is there, who can be spared, and the one that comes for each that went. */
import { mkdtemp } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Blow } from './plan.ts'
import type { Presence } from './presence.ts'
import { openVolunteerBrowser, type VolunteerBrowser } from './volunteerBrowser.ts'

/** Steps for which an owner must have been one, so that it holds what the stage would lose with another. */
const SETTLED_STEPS = 2
const RETRY_MS = 1000
const TRIES = 20

export class Crew {
  readonly #options: { origin: string; folder: string; headed: boolean; signal: AbortSignal }
  readonly #volunteers: VolunteerBrowser[] = []
  /** Pages that came since the run began. */
  readonly #newcomers: Presence[] = []
  readonly #arriving = new Set<Promise<void>>()
  #closed = false
  /** Called whenever somebody's place in the run may have changed. */
  changed: () => void = () => {}
  /** The last committed step. */
  committed = 0

  /** @param options.folder where the profiles are made */
  constructor(options: { origin: string; folder: string; headed: boolean; signal: AbortSignal }) {
    this.#options = options
  }

  get present(): readonly Presence[] {
    return this.#volunteers.map(({ presence }) => presence)
  }

  get newcomers(): readonly Presence[] {
    return this.#newcomers
  }

  /** Opens one more. @throws when its browser does not start or its page does not load */
  async open(profile: string | null = null): Promise<VolunteerBrowser> {
    const { origin, folder, headed } = this.#options
    const volunteer = await openVolunteerBrowser({
      origin,
      profile: profile ?? (await mkdtemp(path.join(folder, 'p'))),
      temporary: folder,
      headed,
      changed: () => this.changed(),
    })
    if (this.#closed) await volunteer.kill()
    else this.#volunteers.push(volunteer)
    return volunteer
  }

  /** Those who compute, and without whom each shard of their stage still has an owner who has been one for some steps. */
  spareable(): VolunteerBrowser[] {
    const here = this.#volunteers.filter(({ presence }) => !presence.away && presence.stage !== null)
    const newest = Math.max(0, ...here.map(({ presence }) => presence.step))
    const keeps = ({ owned }: Presence, shard: number) =>
      this.committed >= (owned.get(shard) ?? Infinity) + SETTLED_STEPS
    return here.filter((one) => {
      const { stage, step, leases, shards } = one.presence
      const others = here.filter((other) => other !== one && other.presence.stage === stage)
      const isKept = (_: unknown, shard: number) => others.some((other) => keeps(other.presence, shard))
      return step === newest && leases.size > 0 && Array.from({ length: shards }).every(isKept)
    })
  }

  /** Lets a blow fall, and sees to what follows it. */
  async strike(victim: VolunteerBrowser, blow: Blow): Promise<void> {
    switch (blow.what) {
      case 'kill':
        this.#remove(victim)
        this.#replace(victim, blow)
        return victim.kill()
      case 'close':
        this.#remove(victim)
        await victim.close()
        return this.#replace(victim, blow)
      case 'reload':
        await victim.reload()
        this.#newcomers.push(victim.presence)
        return
      case 'freeze':
        victim.freeze()
        return this.#later(blow.awayMs, () => this.#volunteers.includes(victim) && victim.thaw(this.committed))
      case 'pause':
        await victim.pause()
        return this.#later(blow.awayMs, () => victim.resume(this.committed))
      case 'server':
        throw new Error('The server is no volunteer.')
    }
  }

  /** Waits for those on their way. */
  async settled(): Promise<void> {
    await Promise.all(this.#arriving)
  }

  report(): Promise<string[]> {
    return Promise.all(this.#volunteers.map((volunteer, i) => volunteer.report(`volunteer ${i + 1}`)))
  }

  async close(): Promise<void> {
    this.#closed = true
    await Promise.all(this.#volunteers.map((volunteer) => volunteer.kill().catch(() => {})))
    await Promise.allSettled(this.#arriving)
  }

  #remove(victim: VolunteerBrowser): void {
    this.#volunteers.splice(this.#volunteers.indexOf(victim), 1)
  }

  #replace(victim: VolunteerBrowser, { awayMs, sameProfile }: Blow): void {
    this.#later(awayMs, async () => {
      for (let tries = 1; !this.#closed; tries++) {
        try {
          const { presence } = await this.open(sameProfile ? victim.profile : null)
          this.#newcomers.push(presence)
          return
        } catch (caught) {
          // The server may be away just now.
          if (tries === TRIES) throw caught
          await sleep(RETRY_MS, undefined, { signal: this.#options.signal })
        }
      }
    })
  }

  #later(ms: number, work: () => unknown): void {
    const { signal } = this.#options
    const arriving = sleep(ms, undefined, { signal })
      .then(() => (this.#closed ? undefined : work()))
      .then(
        () => {},
        (caught: unknown) => {
          if (!signal.aborted && !this.#closed)
            this.faults.push(caught instanceof Error ? caught.message : String(caught))
        },
      )
      .finally(() => this.#arriving.delete(arriving))
    this.#arriving.add(arriving)
  }

  /** What went wrong with those who were to come. */
  readonly faults: string[] = []
}
