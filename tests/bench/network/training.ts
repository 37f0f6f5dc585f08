/** Owns what `npm run bench -- network --train` trains over each line, and the table of what the lines leave of its pace. */
import path from 'node:path'
import type { CodecName, RunConfigInput } from '../../../src/protocol/runConfig.ts'
import { resultInside } from '../../wan/box/enter.ts'
import type { TrainingOver } from '../../wan/programs/training.ts'
import type { Table } from '../report.ts'
import type { MeasuredLink } from './links.ts'

interface Training {
  batch: number
  steps: number
  codec: CodecName
}

const MODEL = { dModel: 128, layers: 4, heads: 4, kvHeads: 4, ffn: 384, blockSize: 64 }

const configOf = ({ batch, steps, codec }: Training): RunConfigInput => ({
  model: MODEL,
  ...{ stages: 4, replicas: 1, batch, microbatch: batch % 4 === 0 ? 4 : 1, steps },
  ...{ codec, codecWidth: 2, checkpointEvery: steps, evalTokens: 1000 },
})

const median = (values: readonly number[]) => values.toSorted((a, b) => a - b)[values.length >> 1]!
const tokensPerSecond = ({ stepMs, tokensPerStep }: TrainingOver) => (1000 * tokensPerStep) / median(stepMs)

/** @param links the first of them is what the others are held against @throws Error where a run goes wrong */
export async function trainingOver(links: readonly MeasuredLink[], training: Training) {
  const program = path.join(import.meta.dirname, '..', '..', 'wan', 'programs', 'training.ts')
  const names = JSON.stringify(links.map(({ name }) => name))
  const results = await resultInside<TrainingOver[]>(program, [JSON.stringify(configOf(training)), names])
  const most = tokensPerSecond(results[0]!)
  const head = [
    '',
    'tokens/s, median step',
    `of ${results[0]!.link}`,
    'step, ms',
    'sent by the busiest, Mbit/s',
    'last loss',
  ]
  const rows = results.map((result) => {
    const pace = tokensPerSecond(result)
    const share = `${((100 * pace) / most).toFixed(1)} %`
    const numbers = [median(result.stepMs).toFixed(0), result.sentMbit.toFixed(2), result.losses.at(-1)!.toFixed(6)]
    return [result.link, pace.toFixed(0), share, ...numbers]
  })
  const records = results.map((result) => ({ impl: 'skein 0.1.0', where: 'node', ...training, ...result }))
  return { table: [head, ...rows] satisfies Table, records }
}
