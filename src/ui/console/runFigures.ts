/** Owns the figures at the head of a run's page. */
import type { RunDetail, StepMetric } from '../../protocol/api.ts'
import { bytes, count, duration, exact, loss, rate } from '../words/quantities.ts'
import { hasEnded, timeLeft, tokensPerStep } from '../words/run.ts'

interface Figure {
  label: string
  value: string
  note?: string
}

/** Figures that do not apply (a validation loss before the end, a time left after it) are left out. */
export function runFigures(run: RunDetail, last: StepMetric | null, best: StepMetric | null): Figure[] {
  const nats = (value: number | null | undefined) => (value == null ? '–' : `${loss(value)}\u00a0nats`)
  const figures: Figure[] = [
    {
      label: 'Step',
      value: `${exact(run.step)} / ${exact(run.config.steps)}`,
      note: `${count(run.step * tokensPerStep(run.config))} tokens`,
    },
    {
      label: 'Loss',
      value: nats(last?.loss ?? run.loss),
      note: best ? `lowest ${loss(best.loss)} at step ${exact(best.step)}` : '',
    },
  ]
  if (run.valLoss !== null) {
    figures.push({ label: 'Validation loss', value: nats(run.valLoss), note: 'on the held-out tail' })
  }
  figures.push(
    { label: 'Throughput', value: rate(run.tokensPerSecond, 'tokens/s') },
    {
      label: 'Gradient norm',
      value: last ? Number(last.gradNorm.toPrecision(3)).toString() : '–',
      note: 'before clipping',
    },
  )
  if (run.config.stages > 1) {
    figures.push({
      label: 'Boundary',
      value: run.boundaryBytesPerToken === null ? '–' : `${bytes(run.boundaryBytesPerToken)}/token`,
      note: `codec ${run.config.codec}`,
    })
  }
  figures.push({ label: 'Rollbacks', value: exact(run.rollbacks), note: 'to the last checkpoint' })
  if (!hasEnded(run.state)) {
    const left = timeLeft(run)
    figures.push({ label: 'Time left', value: left === null ? '–' : duration(left) })
  } else if (run.startedAt !== null && run.finishedAt !== null) {
    figures.push({ label: 'Took', value: duration(run.finishedAt - run.startedAt) })
  }
  return figures
}
