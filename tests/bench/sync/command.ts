/** Owns `npm run bench -- sync`: trains the same model with exact merges and with local steps, and prints bytes and losses. */
import '../../../server/cli/pageImports.mjs'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { generateCorpus } from '../../../src/formats/corpus.ts'
import { fail } from '../../../src/protocol/errors.ts'
import { stepTokens } from '../../../src/protocol/lanes.ts'
import type { Teller } from '../entrant.ts'
import { implOf, SKEIN } from '../engines.ts'
import { figure, markdownTable, terminalTable, type Table } from '../report.ts'
import {
  againstExact,
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
  --updates K          over the whole run (600)
  --replicas R         which are the lanes (4)
  --batch B            sequences in one update of all lanes together (12)
  --inner-steps H      between two merges (30)
  --outer-lr X         of the outer step (0.7)
  --outer-momentum X   (0.9)
  --optimizer NAME     adamw or muon (adamw)
  --lr X               its rate (0.003)
  --seed N             (1)
  --eval-tokens N      held-out tokens that are scored (65536)
  --json FILE          writes the records, one after each row; rows that FILE holds already are not trained again
  --markdown           prints the table as Markdown
  --help               this text`

const REMEDY = 'Run `npm run bench -- sync --help` for the options.'

function optionsOf(args: readonly string[]) {
  const text = { type: 'string' } as const
  const flag = { type: 'boolean', default: false } as const
  try {
    return parseArgs({
      args: [...args],
      strict: true,
      options: {
        ...{
          data: text,
          rows: text,
          updates: text,
          replicas: text,
          batch: text,
          'inner-steps': text,
          'outer-lr': text,
        },
        ...{ 'outer-momentum': text, optimizer: text, lr: text, seed: text, 'eval-tokens': text, json: text },
        ...{ markdown: flag, help: flag },
      },
    }).values
  } catch (caught) {
    return fail('bench.option', caught instanceof Error ? caught.message : String(caught), REMEDY)
  }
}

type Options = ReturnType<typeof optionsOf>

function settingOf(options: Options): Setting {
  const number = (name: keyof Options, usual: number, whole: boolean) => {
    const value = options[name] === undefined ? usual : Number(options[name])
    if (value >= 0 && (!whole || Number.isInteger(value))) return value
    return fail('bench.option', `--${name} takes a ${whole ? 'whole ' : ''}number, not “${options[name]}”.`, REMEDY)
  }
  const { optimizer = 'adamw' } = options
  if (optimizer !== 'adamw' && optimizer !== 'muon')
    return fail('bench.option', `--optimizer takes adamw or muon, not “${optimizer}”.`, REMEDY)
  const setting = {
    optimizer,
    updates: number('updates', 600, true),
    replicas: number('replicas', 4, true),
    batch: number('batch', 12, true),
    innerSteps: number('inner-steps', 30, true),
    outerLr: number('outer-lr', 0.7, false),
    outerMomentum: number('outer-momentum', 0.9, false),
    lr: number('lr', 3e-3, false),
    seed: number('seed', 1, true),
    data: options.data === undefined ? 'stories' : path.basename(options.data),
  } as const
  if (setting.updates % setting.innerSteps !== 0)
    fail('bench.option', `${setting.updates} updates are no whole number of ${setting.innerSteps} inner steps.`, REMEDY)
  if (setting.batch % setting.replicas !== 0)
    fail('bench.option', `A batch of ${setting.batch} cannot be parted among ${setting.replicas} lanes.`, REMEDY)
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
    const config = rowConfig(row, setting, text.vocabSize, Number(options['eval-tokens'] ?? 65_536))
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
