/** Owns the figures at the head of a run's page. */
import type { RunDetail, StepMetric } from '../../protocol/api.ts'
import { bytes, count, duration, exact, loss, speed } from '../words/quantities.ts'
import { stepTokens } from '../../protocol/lanes.ts'
import { hasEnded, timeLeft } from '../words/run.ts'

interface Figure {
  label: string
  value: string
  unit?: string
  note?: string
}

/** Figures that do not apply (a validation loss before the end, a time left after it) are left out. */
export function runFigures(run: RunDetail, last: StepMetric | null, best: StepMetric | null): Figure[] {
  const { config } = run
  const figures: Figure[] = [
    {
      label: 'Step',
      value: exact(run.step),
      unit: `of ${exact(config.steps)}`,
      note: `${count(run.step * stepTokens(config))} tokens`,
    },
    {
      label: 'Loss',
      ...nats(last?.loss ?? run.loss),
      note: best ? `best ${loss(best.loss)}` : '',
    },
  ]
  if (run.valLoss !== null) {
    figures.push({ label: 'Validation loss', ...nats(run.valLoss), note: 'on the held-out tail' })
  }
  figures.push(
    { label: 'Throughput', ...known(run.tokensPerSecond, speed, 'tokens/s') },
    {
      label: 'Gradient norm',
      value: last ? Number(last.gradNorm.toPrecision(3)).toString() : '–',
      note: 'before clipping',
    },
  )
  if (config.stages > 1) {
    figures.push({
      label: 'Boundary',
      ...known(run.boundaryBytesPerToken, bytes, 'per token'),
      note: `codec ${config.codec}`,
    })
  }
  figures.push(
    { label: 'Recovered', ...counted(run.recovered, 'lease'), note: 'computed by others' },
    { label: 'Rolled back', ...counted(run.rollbacks, 'time'), note: 'to a checkpoint' },
  )
  if (run.payment) {
    const { planckPerPflop, budget, spent } = run.payment
    figures.push({
      label: 'Spent',
      value: spent === null ? '–' : exact(BigInt(spent)),
      unit: `of ${exact(BigInt(budget))} planck`,
      note: `${exact(BigInt(planckPerPflop))} planck a PFLOP`,
    })
  }
  if (!hasEnded(run.state)) figures.push({ label: 'Time left', ...known(timeLeft(run), duration) })
  else if (run.startedAt !== null && run.finishedAt !== null) {
    figures.push({ label: 'Took', value: duration(run.finishedAt - run.startedAt) })
  }
  return figures
}

/** A dash needs no unit. */
function known(value: number | null, write: (value: number) => string, unit = ''): { value: string; unit: string } {
  return value === null ? { value: '–', unit: '' } : { value: write(value), unit }
}

const counted = (value: number, unit: string) => ({ value: exact(value), unit: value === 1 ? unit : `${unit}s` })

const nats = (value: number | null) => known(value, loss, 'nats')
