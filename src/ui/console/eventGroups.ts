/** Owns how a run's events become the lines of its log: newest first, the same sentence said in a row only once. */
import type { RunEvent } from '../../protocol/api.ts'
import { exact, span } from '../words/quantities.ts'

/** Sentences further apart than this are not told as one. */
const TOGETHER_MS = 10_000

export interface EventLine {
  /** The place of its first event among all of the run, which stays while later ones join it. */
  readonly key: number
  /** Of its newest event, Unix milliseconds. */
  readonly at: number
  readonly firstAt: number
  readonly firstStep: number
  readonly step: number
  readonly text: string
  readonly times: number
}

/**
 * @param events oldest first
 * @param older events of the run before the first of them
 * @returns newest first
 */
export function eventLines(events: readonly RunEvent[], older: number): EventLine[] {
  const lines: EventLine[] = []
  events.forEach(({ at, step, text }, i) => {
    const last = lines.at(-1)
    if (last?.text === text && at - last.at <= TOGETHER_MS)
      lines[lines.length - 1] = { ...last, at, step, times: last.times + 1 }
    else lines.push({ key: older + i, at, firstAt: at, firstStep: step, step, text, times: 1 })
  })
  return lines.reverse()
}

/** Such as `3 times within 4 s`; empty for what was said once. */
export function timesWords({ times, at, firstAt }: Pick<EventLine, 'times' | 'at' | 'firstAt'>): string {
  if (times === 1) return ''
  return `${times} times within ${span(Math.max(1000, Math.ceil((at - firstAt) / 1000) * 1000))}`
}

export function stepWords({ firstStep, step }: Pick<EventLine, 'firstStep' | 'step'>): string {
  return firstStep < step ? `steps ${exact(firstStep)}–${exact(step)}` : `step ${exact(step)}`
}
