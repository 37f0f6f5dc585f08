/** Owns which days of credit are drawn, and how long their bars are. */
import type { AccountView } from '../../protocol/ledgerApi.ts'

export interface DayBar {
  /** UTC, as `2026-11-29`. */
  day: string
  earned: bigint
  /** Of the best day among those drawn, from 0 to 1. */
  share: number
}

const DAY_MS = 86_400_000

/**
 * The last days with those between them on which nothing was earned, newest first.
 * @param days as the server lists them, newest first, those with credit only
 * @param most days drawn
 */
export function dayBars(days: AccountView['days'], most: number): DayBar[] {
  const [newest] = days
  if (!newest) return []
  const earned = new Map(days.map((day) => [day.day, BigInt(day.earned)]))
  const last = Date.parse(newest.day)
  const first = Math.max(Date.parse(days.at(-1)!.day), last - (most - 1) * DAY_MS)
  const bars: { day: string; earned: bigint }[] = []
  for (let at = last; at >= first; at -= DAY_MS) {
    const day = new Date(at).toISOString().slice(0, 10)
    bars.push({ day, earned: earned.get(day) ?? 0n })
  }
  const best = bars.reduce((most, bar) => (bar.earned > most ? bar.earned : most), 0n)
  return bars.map((bar) => ({ ...bar, share: best === 0n ? 0 : Number(bar.earned) / Number(best) }))
}
