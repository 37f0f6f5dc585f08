/** Owns the table of lies: how surely and how soon each is found. */
import { LIES } from './lies.ts'
import type { Fate, LiarOutcome } from './liarWorld.ts'

export const mean = (values: readonly number[]) => values.reduce((sum, x) => sum + x, 0) / values.length

function median(values: readonly number[]): number | null {
  return values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)] ?? null
}

const of = (outcomes: readonly LiarOutcome[], lie: Fate['lie']) =>
  outcomes.flatMap(({ fates }) => fates.filter((fate) => fate.lie === lie))

function found(fates: readonly Fate[]): string {
  const steps = fates.flatMap(({ convictedAt }) => convictedAt ?? [])
  return `${steps.length}/${fates.length}`
}

function steps(fates: readonly Fate[]): string {
  const at = fates.flatMap(({ convictedAt }) => convictedAt ?? [])
  return at.length === 0 ? '–' : `${median(at)} / ${Math.max(...at)}`
}

/** Recomputations over claims; merges take no products of matrices. */
function cost(fates: readonly Fate[]): string {
  const sum = (name: 'claims' | 'recomputed') => fates.reduce((total, fate) => total + fate[name], 0)
  return `${((100 * sum('recomputed')) / sum('claims')).toFixed(1)} %`
}

/** Markdown: the liars by what they do, then the honest devices, whose audits are what the network pays in the long run. */
export function lieTable(fresh: readonly LiarOutcome[], trusted: readonly LiarOutcome[]): string {
  const rows = LIES.filter((lie) => of(fresh, lie).length > 0).map((lie) => {
    const [now, later] = [of(fresh, lie), of(trusted, lie)]
    return [lie, found(now), steps(now), cost(now), found(later), steps(later), cost(later)]
  })
  const [now, later] = [of(fresh, null), of(trusted, null)]
  rows.push(['none', found(now), '–', cost(now), found(later), '–', cost(later)])
  const figures = ['convicted', 'steps, median / most', 'recomputed of its claims']
  const head = ['lie', ...figures.map((name) => `newcomers: ${name}`), ...figures.map((name) => `trusted: ${name}`)]
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}
