/** Owns `npm run bench -- sync`: trains the same model with exact merges and with local steps, and prints bytes and losses. */
import '../../../server/cli/pageImports.mjs'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { generateCorpus } from '../../../src/formats/corpus.ts'
import { fail } from '../../../src/protocol/errors.ts'
import { stepTokens } from '../../../src/protocol/lanes.ts'
import { CommandLine, TEXT } from '../commandLine.ts'
import type { Teller } from '../entrant.ts'
import { implOf, SKEIN } from '../engines.ts'
import { figure, markdownTable, terminalTable, type Table } from '../report.ts'
import {
  againstExact,
  HEAD_SIZE,
  isOf,
  readRecords,
  rowConfig,
  ROWS,
  type Setting,
  type SyncRecord,
  writeRecords,
} from './rows.ts'

export const SYNC_USAGE = `npm run bench -- sync [options]: what merging costs, in bytes and in loss

  Trains one model on this device as its replicas would, with exact merges and with local steps, on as many tokens, counts
  what a replica sends to merge, and scores held-out text. On Dawn.
  --data FILE          UTF-8 text; the last tenth is held out (made-up stories)
  --rows A,B           only these: ${ROWS.join(', ')}
  --d-model D          width, in heads of ${HEAD_SIZE} (128)
  --layers N           (4)
  --block T            tokens in a sequence (64)
  --updates K          over the whole run (600)
  --replicas R         which are the lanes (4)
  --batch B            sequences in one update of all lanes together (12)
  --inner-steps H      between two merges (30)
  --moments NAME       what lanes begin from: the mean of their moments, or zero (mean)
  --outer-lr X         of the outer step (0.9)
  --outer-momentum X   (0.7)
  --overlap N          inner steps over which shards become final and are sent, one after another (0)
  --optimizer NAME     adamw or muon (adamw)
  --lr X               its rate (0.003)
  --min-lr X           what the rate falls to (a tenth of it)
  --seed N             (1)
  --eval-tokens N      held-out tokens that are scored (65536)
  --json FILE          writes the records, one after each row; rows that FILE holds already are not trained again
  --markdown           prints the table as Markdown
  --help               this text`

const line = new CommandLine('sync')

function optionsOf(args: readonly string[]) {
  const model = { 'd-model': TEXT, layers: TEXT, block: TEXT }
  const training = { data: TEXT, rows: TEXT, updates: TEXT, replicas: TEXT, batch: TEXT, seed: TEXT }
  const optimizers = {
    optimizer: TEXT,
    lr: TEXT,
    'min-lr': TEXT,
    'inner-steps': TEXT,
    moments: TEXT,
    'outer-lr': TEXT,
    'outer-momentum': TEXT,
    overlap: TEXT,
  }
  return line.read(args, { ...model, ...training, ...optimizers, 'eval-tokens': TEXT }).values
}

type Options = ReturnType<typeof optionsOf>

function settingOf({ data, optimizer = 'adamw', moments = 'mean', ...options }: Options): Setting {
  const number = (name: keyof typeof options, usual: number) => line.number(name, String(options[name] ?? usual))
  const count = (name: keyof typeof options, usual: number) =>
    line.number(name, String(options[name] ?? usual), { whole: true, least: 1 })
  const lr = number('lr', 3e-3)
  const setting = {
    optimizer: line.choice('optimizer', optimizer, ['adamw', 'muon']),
    dModel: count('d-model', 128),
    layers: count('layers', 4),
    blockSize: count('block', 64),
    updates: count('updates', 600),
    replicas: count('replicas', 4),
    batch: count('batch', 12),
    innerSteps: count('inner-steps', 30),
    moments: line.choice('moments', moments, ['mean', 'zero']),
    outerLr: number('outer-lr', 0.9),
    outerMomentum: number('outer-momentum', 0.7),
    overlap: line.number('overlap', options.overlap ?? '0', { whole: true }),
    lr,
    minLr: number('min-lr', lr / 10),
    seed: line.number('seed', options.seed ?? '1', { whole: true }),
    data: data === undefined ? 'stories' : path.basename(data),
  }
  if (setting.dModel % HEAD_SIZE !== 0)
    line.refuse(`A width of ${setting.dModel} is no whole number of heads of ${HEAD_SIZE}.`)
  if (setting.updates % setting.innerSteps !== 0)
    line.refuse(`${setting.updates} updates are no whole number of ${setting.innerSteps} inner steps.`)
  if (setting.batch % setting.replicas !== 0)
    line.refuse(`A batch of ${setting.batch} cannot be parted among ${setting.replicas} lanes.`)
  return setting
}

/** Of the built-in stories. */
const CORPUS_BYTES = 1_100_000

/** @throws SkeinError `bench.option`, `bench.records`, `agent.adapter`, `gpu.*` */
export async function syncBench(
  args: readonly string[],
  print: (text: string) => void,
  { say, now }: Teller,
): Promise<number> {
  const options = optionsOf(args)
  if (options.help) {
    print(SYNC_USAGE)
    return 0
  }
  const setting = settingOf(options)
  const evalTokens = line.number('eval-tokens', options['eval-tokens'] ?? '65536', { whole: true, least: 1 })
  const wanted = options.rows?.split(',').map((name) => name.trim())
  const unknown = wanted?.find((name) => !ROWS.some((row) => row === name))
  if (unknown !== undefined) fail('bench.option', `There is no row “${unknown}”.`, `Rows: ${ROWS.join(', ')}.`)
  // After the hooks that the shaders are loaded by.
  const { gpuSource } = await import('../../../src/agent/adapter.ts')
  const { textOf, trainExact, trainLocal } = await import('./train.ts')
  const text = textOf(options.data === undefined ? generateCorpus(1, CORPUS_BYTES) : readFileSync(options.data, 'utf8'))
  const records = options.json ? readRecords(options.json) : []
  const gpu = await (await gpuSource(null))()
  const { vendor, architecture } = gpu.adapter
  for (const row of ROWS.filter((name) => !wanted || wanted.includes(name))) {
    if (records.some((record) => isOf(record, row, setting))) continue
    const config = rowConfig(row, setting, text.vocabSize, evalTokens)
    const from = performance.now()
    const train = row === 'exact' ? trainExact : trainLocal
    const { valLoss, mergeBytes } = await train(gpu, config, text, (updates, loss) =>
      now(`${row}: update ${updates} of ${setting.updates}, loss ${loss.toFixed(3)}`),
    )
    const seconds = (performance.now() - from) / 1000
    say(`${row}: ${valLoss.toFixed(4)} after ${seconds.toFixed(0)} s`)
    records.push({
      ...{ where: 'dawn', adapter: `${vendor} ${architecture}`, impl: implOf(SKEIN) },
      ...setting,
      row,
      mergeCodec: row === 'exact' ? 'f32' : config.local.mergeCodec,
      mergeBytesPerToken: mergeBytes / stepTokens(config),
      ...{ ratioToExact: null, valLoss, gap: null, seconds },
    })
    if (options.json) writeRecords(options.json, againstExact(records))
  }
  gpu.destroy()
  const asked = againstExact(records).filter((record) => isOf(record, record.row, setting))
  const table = syncTable(asked)
  print(`\n${options.markdown ? markdownTable(table) : terminalTable(table)}`)
  return 0
}

function syncTable(records: readonly SyncRecord[]): Table {
  const percent = (part: number) => `${part < 0 ? '−' : '+'}${Math.abs(100 * part).toFixed(2)} %`
  const lines = records.map(({ row, mergeBytesPerToken, ratioToExact, valLoss, gap }) => [
    row,
    figure(mergeBytesPerToken),
    ratioToExact === null ? '–' : `${figure(ratioToExact)}×`,
    valLoss.toFixed(4),
    gap === null ? '–' : percent(gap),
  ])
  return [['merge', 'bytes/token', 'below exact', 'held-out loss', 'gap'], ...lines]
}
