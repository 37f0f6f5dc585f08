/** Owns what a disturbed run amounts to: the figures in summary.json and the table in the terminal. */
import { z } from 'zod'
import type { RunDetail, StepMetric } from '../../../../src/protocol/api.ts'
import type { Blow } from './plan.ts'
import type { Presence } from './presence.ts'
import { announced, silent, type Takeovers } from './takeovers.ts'
import type { TrajectoryDifference } from './trajectory.ts'

const seconds = z.number().nullable()

export const chaosSummarySchema = z.object({
  seed: z.int(),
  /** Browsers killed, made to stand still, pages closed, reloaded and paused, and deaths of the server. */
  kills: z.int(),
  freezes: z.int(),
  leaves: z.int(),
  reloads: z.int(),
  pauses: z.int(),
  serverKills: z.int(),
  /** Leases that moved from a lost or slow owner to another. */
  recoveredLeases: z.int(),
  rollbacks: z.int(),
  /** Of a step's loss, relative to the undisturbed run; null where a step is missing or is not a number. */
  largestDifference: seconds,
  /** Mean loss of each step of the run that nobody disturbed; the disturbed run's are `trainLoss`. */
  undisturbedLoss: z.array(z.number()),
  /** The longest time until the leases of the one that was lost were with others, by how the server learned of it. */
  takeoverSeconds: z.object({ silence: seconds, pagehide: seconds }),
  /** Volunteers that were lost with all their leases finished and their share of the sum handed on: nothing had to move. */
  finishedBefore: z.int(),
  /** From the server's death to the next commit. */
  serverSeconds: seconds,
  /** From opening a page to its first computed microbatch, over those who came during the run and were needed. */
  firstMicrobatchSeconds: z.object({ max: seconds, median: seconds }),
})
export type ChaosSummary = z.infer<typeof chaosSummarySchema>

export function chaosSummary(
  seed: number,
  undisturbed: readonly Pick<StepMetric, 'loss'>[],
  { recovered, rollbacks }: Pick<RunDetail, 'recovered' | 'rollbacks'>,
  takeovers: Takeovers,
  newcomers: readonly Presence[],
  difference: TrajectoryDifference,
): ChaosSummary {
  const count = (what: string) => takeovers.struck.filter(({ blow }) => blow.what === what).length
  const first = firsts(newcomers)
  const whole = difference.missing.length === 0 && Number.isFinite(difference.largest)
  return {
    seed,
    kills: count('kill'),
    freezes: count('freeze'),
    leaves: count('close'),
    reloads: count('reload'),
    pauses: count('pause'),
    serverKills: count('server'),
    recoveredLeases: recovered,
    rollbacks,
    largestDifference: whole ? difference.largest : null,
    undisturbedLoss: undisturbed.map(({ loss }) => loss),
    takeoverSeconds: { silence: takeovers.longest(silent), pagehide: takeovers.longest(announced) },
    finishedBefore: takeovers.stood,
    serverSeconds: takeovers.longest(new Set(['server'])),
    firstMicrobatchSeconds: { max: first.at(-1) ?? null, median: first[first.length >> 1] ?? null },
  }
}

/** Ascending. */
const firsts = (newcomers: readonly Presence[]) =>
  newcomers
    .map((one) => one.firstMicrobatchSeconds())
    .filter((value) => value !== null)
    .sort((a, b) => a - b)

/** A line for each blow: what it was, where, and how long it took until the run was over it. */
export function blowLines({ struck }: Takeovers): string[] {
  const rows = struck.map(({ blow, step, stage, leases, seconds, stood }) => [
    blow.what,
    String(step),
    stage === null ? '' : String(stage + 1),
    stage === null ? '' : String(leases),
    seconds === null ? 'not yet' : stood ? 'had finished' : `${seconds.toFixed(2)} s`,
    replacement(blow),
  ])
  return table([['blow', 'after step', 'stage', 'leases', 'taken over after', 'then comes'], ...rows])
}

function replacement({ what, sameProfile }: Blow): string {
  if (what === 'server') return 'the server again'
  if (what !== 'kill' && what !== 'close') return 'the same device'
  return sameProfile ? 'the same device in a new browser' : 'a stranger'
}

/** A line for each page that came during the run. */
export function newcomerLines(newcomers: readonly Presence[]): string[] {
  const rows = newcomers.map((one, i) => {
    const { openedAt, assignedAt, readyAt, stage } = one
    const after = (at: number | null) => (at === null ? 'not yet' : `${((at - openedAt) / 1000).toFixed(2)} s`)
    const first = one.firstMicrobatchSeconds()
    return [
      String(i + 1),
      stage === null ? '' : String(stage + 1),
      after(assignedAt),
      after(readyAt),
      first === null ? (one.leasedAt === null ? 'was not needed' : 'was hit before') : `${first.toFixed(2)} s`,
    ]
  })
  return table([['newcomer', 'stage', 'joins after', 'ready after', 'first microbatch after'], ...rows])
}

function table(rows: readonly string[][]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows.map((row) => `  ${row.map((cell, column) => cell.padEnd(widths[column]!)).join('  ')}`.trimEnd())
}
