/** Owns what goes wrong in a disturbed run: a list of blows, each at its step, drawn from a seed and nothing else. */

/**
 * What a volunteer suffers. `kill`: its browser dies without a word (SIGKILL). `freeze`: its browser stands still for longer
 * than the server is patient, and then goes on (SIGSTOP, SIGCONT). `close`, `reload`: the page says that it leaves. `pause`:
 * the person presses the button, and presses it again later.
 */
export const volunteerBlows = ['kill', 'close', 'reload', 'freeze', 'pause'] as const
export type VolunteerBlow = (typeof volunteerBlows)[number]

export interface Blow {
  /** It falls after this step is committed... */
  readonly atStep: number
  /** ...by this share of a step's usual time, from 0 to 1, so that it meets any part of a step. */
  readonly moment: number
  readonly what: VolunteerBlow | 'server'
  /** From 0 to 1: which one of those that can be spared. */
  readonly victim: number
  /** How long the place stays empty, the page stands still, or the button stays unpressed. */
  readonly awayMs: number
  /** Whether the one that comes instead is the same browser profile, a device that the server knows. */
  readonly sameProfile: boolean
}

const STEPS_BETWEEN = 5
const SERVER_AWAY_MS = 1000

/** Mulberry32 (Ettinger 2017): numbers from 0 up to 1, the same for the same seed everywhere. */
export function seededNumbers(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000
  }
}

/**
 * A blow every few steps from the third on, every kind once before one comes twice, and the server killed at the middle.
 * @param steps of the run; nothing happens in its last two
 */
export function chaosPlan(seed: number, steps: number): Blow[] {
  const next = seededNumbers(seed)
  const between = (least: number, most: number) => least + next() * (most - least)
  const middle = Math.round(steps / 2)
  const plan: Blow[] = []
  let round: VolunteerBlow[] = []
  for (let step = 3; step <= steps - 2; step += STEPS_BETWEEN - 1 + Math.floor(next() * 3)) {
    if (round.length === 0) round = shuffled(volunteerBlows, next)
    const what = round.pop()!
    const awayMs = Math.round(what === 'freeze' ? between(8000, 12_000) : between(1000, 2000))
    plan.push({
      atStep: step,
      moment: next(),
      what,
      victim: next(),
      awayMs,
      sameProfile: next() < 0.25,
    })
  }
  if (middle >= 1 && middle <= steps - 2) {
    const moment = next()
    const index = plan.findIndex(({ atStep }) => atStep >= middle)
    const server: Blow = {
      atStep: middle,
      moment,
      what: 'server',
      victim: 0,
      awayMs: SERVER_AWAY_MS,
      sameProfile: true,
    }
    plan.splice(index < 0 ? plan.length : index, 0, server)
  }
  return plan
}

function shuffled<T>(values: readonly T[], next: () => number): T[] {
  const all = [...values]
  for (let i = all.length - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1))
    ;[all[i], all[j]] = [all[j]!, all[i]!]
  }
  return all
}
