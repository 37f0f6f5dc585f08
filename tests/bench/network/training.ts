/** Owns what `npm run bench -- network --train` and `--merge` train over each line, and the tables of what the lines leave of its pace. */
import path from 'node:path'
import type { CodecName, RunConfigInput } from '../../../src/protocol/runConfig.ts'
import { resultInside } from '../../wan/box/enter.ts'
import type { RunOver, TrainingOver } from '../../wan/programs/training.ts'
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

/** A run, and what tells it from the others: a part of its record, and its row's name. */
interface Row<T> {
  readonly run: RunOver
  readonly name: string
  readonly of: T
}

/** @param rows the first of them is what the others are held against @throws Error where a run goes wrong */
async function tableOver<T extends object>(rows: readonly Row<T>[]) {
  const program = path.join(import.meta.dirname, '..', '..', 'wan', 'programs', 'training.ts')
  const results = await resultInside<TrainingOver[]>(program, [JSON.stringify(rows.map(({ run }) => run))])
  const most = tokensPerSecond(results[0]!)
  const head = [
    '',
    'tokens/s, median step',
    `of ${rows[0]!.name}`,
    'step, ms',
    'sent by the busiest, Mbit/s',
    'last loss',
  ]
  const lines = results.map((result, i) => {
    const pace = tokensPerSecond(result)
    const share = `${((100 * pace) / most).toFixed(1)} %`
    const numbers = [median(result.stepMs).toFixed(0), result.sentMbit.toFixed(2), result.losses.at(-1)!.toFixed(6)]
    return [rows[i]!.name, pace.toFixed(0), share, ...numbers]
  })
  const about = { impl: 'skein 0.1.0', where: 'node' }
  const records = results.map((result, i) => ({ ...about, link: rows[i]!.run.link, ...rows[i]!.of, ...result }))
  return { table: [head, ...lines] satisfies Table, records }
}

/** A pipeline of four over each line. @throws Error where a run goes wrong */
export function trainingOver(links: readonly MeasuredLink[], training: Training) {
  const config = configOf(training)
  return tableOver(links.map(({ name }) => ({ run: { link: name, config }, name, of: training })))
}

interface Merging {
  innerSteps: number
  /** Of the rows that overlap. */
  overlap: number
  steps: number
}

/** Little to compute beside its parameters, so that a merge takes a good part of the time that its updates do. */
const MERGED_MODEL = { ...MODEL, blockSize: 32 }

/** Four replicas of one stage with local steps over each line, without and with overlap. @throws Error where a run goes wrong */
export function mergingOver(links: readonly MeasuredLink[], { innerSteps, overlap, steps }: Merging) {
  const rows = links.flatMap(({ name: link }) =>
    [0, overlap].map((local) => {
      const config: RunConfigInput = {
        model: MERGED_MODEL,
        ...{ stages: 1, replicas: 4, batch: 4, microbatch: 1, steps, checkpointEvery: steps, evalTokens: 1000 },
        ...{ sync: 'local', local: { innerSteps, overlap: local } },
      }
      return { run: { link, config }, name: `${link}, overlap ${local}`, of: { innerSteps, overlap: local, steps } }
    }),
  )
  return tableOver(rows)
}
