/** Owns `npm run bench -- codec`: trains the same model under each codec from the same seeds and prints what that costs. */
import '../../../server/cli/pageImports.mjs'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { generateCorpus } from '../../../src/formats/corpus.ts'
import { tokenizerFor } from '../../../src/formats/tokenizer.ts'
import { CommandLine, FLAG, TEXT } from '../commandLine.ts'
import type { Teller } from '../entrant.ts'
import { implOf, SKEIN } from '../engines.ts'
import { markdownTable, terminalTable, type Table } from '../report.ts'
import { readRecords, writeRecords, type CodecRecord } from './records.ts'
import { bytesPerToken, codecRows, trialConfig, UNCOMPRESSED, type SettingName, type Trial } from './rows.ts'

export const CODEC_USAGE = `npm run bench -- codec [options]: what each codec costs, in bytes and in loss

  Trains one model in four stages on this device, with the bytes that its boundaries would carry, under each codec from the
  same seeds, and scores held-out text. Gaps are to the uncompressed run with the same optimizer and seed. On Dawn.
  --full           d 256, 8 layers, block 128, batch 8 instead of d 128, 4 layers, block 64, batch 12; for a GPU
  --data FILE      UTF-8 text; the last tenth is held out (made-up stories)
  --rows A,B       only rows whose names hold one of these: ${codecRows('full')
    .map(({ name }) => name)
    .join(', ')}
  --optimizer NAME adamw or muon (both)
  --seeds N        seeds, from 1 (2)
  --steps K        updates (600); fewer show only that everything runs
  --json FILE      writes the records, one after each row; rows that FILE holds already are not trained again
  --markdown       prints the table as Markdown
  --help           this text`

const OPTIMIZERS = ['adamw', 'muon'] as const

const line = new CommandLine('codec')

function optionsOf(args: readonly string[]) {
  const texts = { data: TEXT, rows: TEXT, optimizer: TEXT, seeds: TEXT, steps: TEXT }
  const { values } = line.read(args, { full: FLAG, ...texts })
  const { optimizer, seeds = '2', steps } = values
  const count = { whole: true, least: 1 }
  return {
    ...values,
    optimizers: optimizer === undefined ? OPTIMIZERS : [line.choice('optimizer', optimizer, OPTIMIZERS)],
    seeds: line.number('seeds', seeds, count),
    steps: steps === undefined ? null : line.number('steps', steps, count),
  }
}

/** Of the built-in stories: about as much as Shakespeare's plays in the small. */
const CORPUS_BYTES = 1_100_000

const sameTrial = (record: CodecRecord, { setting, row, optimizer, seed }: Trial, data: string, steps: number) =>
  record.setting === setting &&
  record.data === data &&
  record.steps === steps &&
  record.row === row.name &&
  record.optimizer === optimizer &&
  record.seed === seed

/** @throws SkeinError `bench.option`, `bench.records`, `agent.adapter`, `gpu.*` */
export async function codecBench(
  args: readonly string[],
  print: (text: string) => void,
  { say, now }: Teller,
): Promise<number> {
  const options = optionsOf(args)
  if (options.help) {
    print(CODEC_USAGE)
    return 0
  }
  // After the hooks that the shaders are loaded by.
  const { gpuSource } = await import('../../../src/agent/adapter.ts')
  const { textOf, trainAndScore } = await import('./train.ts')
  const setting: SettingName = options.full ? 'full' : 'default'
  const wanted = options.rows?.split(',')
  const rows = codecRows(setting).filter(({ name }) => !wanted || wanted.some((part) => name.includes(part)))
  const data = options.data === undefined ? 'stories' : path.basename(options.data)
  const written = options.data === undefined ? generateCorpus(1, CORPUS_BYTES) : readFileSync(options.data, 'utf8')
  const text = textOf(written, tokenizerFor('character', written))
  const trials: Trial[] = []
  for (let seed = 1; seed <= options.seeds; seed++) {
    for (const row of rows) {
      for (const optimizer of options.optimizers)
        trials.push({ setting, row, optimizer, seed, ...(options.steps !== null && { steps: options.steps }) })
    }
  }
  const records = options.json ? readRecords(options.json) : []
  const gpu = await (await gpuSource(null))()
  const { vendor, architecture } = gpu.adapter
  for (const [index, trial] of trials.entries()) {
    const config = trialConfig(trial, text.tokenizer.vocabSize)
    if (records.some((record) => sameTrial(record, trial, data, config.steps))) continue
    const name = `[${index + 1}/${trials.length}] ${trial.row.name}, ${trial.optimizer}, seed ${trial.seed}`
    const from = performance.now()
    const valLoss = await trainAndScore(gpu, config, text, (step, loss) =>
      (step % 100 === 0 ? say : now)(`${name}: step ${step} of ${config.steps}, loss ${loss.toFixed(3)}`),
    )
    const seconds = (performance.now() - from) / 1000
    say(`${name}: ${valLoss.toFixed(4)} after ${seconds.toFixed(0)} s`)
    const bytes = bytesPerToken(config)
    records.push({
      ...{ where: 'dawn', adapter: `${vendor} ${architecture}`, impl: implOf(SKEIN) },
      ...{ setting, data, steps: config.steps, optimizer: trial.optimizer, seed: trial.seed },
      ...{ row: trial.row.name, codec: config.codec, bytesPerToken: bytes },
      ratioToBf16: bytes && (2 * config.model.dModel) / bytes,
      ...{ valLoss, gap: null, seconds },
    })
    if (options.json) writeRecords(options.json, withGaps(records))
  }
  gpu.destroy()
  const asked = withGaps(records).filter((record) =>
    trials.some((trial) => sameTrial(record, trial, data, trialConfig(trial, text.tokenizer.vocabSize).steps)),
  )
  const table = codecTable(asked)
  print(`\n${options.markdown ? markdownTable(table) : terminalTable(table)}`)
  return 0
}

/** Each with its gap to the uncompressed run of the same setting, data, steps, optimizer and seed. */
export function withGaps(records: readonly CodecRecord[]): CodecRecord[] {
  return records.map((record) => {
    const { setting, optimizer, seed, data, steps } = record
    const row = { setting, row: UNCOMPRESSED, optimizer, seed }
    const base = records.find((other) => sameTrial(other, row, data, steps))
    return { ...record, gap: base ? record.valLoss / base.valLoss - 1 : null }
  })
}

/** One line for each row and optimizer: means over the seeds, and the gap of each seed. */
export function codecTable(records: readonly CodecRecord[]): Table {
  const header = ['codec', 'optimizer', 'bytes/token', '× below bf16', 'held-out loss', 'gap', 'gap of each seed']
  const groups = new Map<string, CodecRecord[]>()
  for (const record of records) {
    const key = `${record.row} ${record.optimizer}`
    groups.set(key, [...(groups.get(key) ?? []), record])
  }
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length
  const percent = (part: number) => `${part < 0 ? '−' : '+'}${Math.abs(100 * part).toFixed(1)} %`
  const lines = [...groups.values()].map((group) => {
    const { row, optimizer, bytesPerToken: bytes, ratioToBf16: ratio } = group[0]!
    const gaps = group.flatMap(({ gap }) => gap ?? [])
    return [
      row,
      optimizer,
      bytes === null ? '–' : String(bytes),
      ratio === null ? '–' : ratio.toFixed(1),
      mean(group.map(({ valLoss }) => valLoss)).toFixed(4),
      gaps.length === 0 ? '–' : percent(mean(gaps)),
      gaps.map(percent).join(', ') || '–',
    ]
  })
  return [header, ...lines]
}
