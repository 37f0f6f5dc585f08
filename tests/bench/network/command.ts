/** Owns `npm run bench -- network`: its options, the way into the box, its table and its records. */
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { fail } from '../../../src/protocol/errors.ts'
import { codecNameSchema } from '../../../src/protocol/runConfig.ts'
import { isInside, resultInside, runInside, whyNoBox } from '../../wan/box/enter.ts'
import { bestWay, matrixTable } from '../../wan/matrixTable.ts'
import type { NatMatrix } from '../../wan/programs/natMatrix.ts'
import { CommandLine, FLAG, TEXT } from '../commandLine.ts'
import { markdownTable, terminalTable, type Table } from '../report.ts'
import { MEASURED_LINKS } from './links.ts'
import { LinkBench, type Measurement } from './measure.ts'
import { mergingOver, trainingOver } from './training.ts'

const USAGE = `npm run bench -- network [options]
  two ends in network namespaces, a line between them: how full it gets, how long 64 KiB take; needs root on Linux
  --ends KIND      browser or agent (browser)
  --link A,B       of ${MEASURED_LINKS.map(({ name }) => name).join(', ')} (all)
  --seconds N      of bulk, for each figure (12)
  --nat            instead: the ways between homes behind NATs, two browsers or agents at a time, with and without TURN (coturn)
  --train          instead: four agents, a stage each, train over each link; what it leaves of the tokens a second
  --merge          instead: four agents, a replica each of one stage with local steps, train over each link without and with overlap
  --inner-steps H  of --merge, between two merges (6)
  --overlap N      of --merge, in every second row: inner steps over which shards become final and are sent (5)
  --batch N        sequences of 64 tokens in a step of --train (192)
  --codec NAME     of the boundaries of --train (bottleneck-f16, two numbers a token: 64 times below bf16)
  --steps N        of --train and --merge, two of them to warm up (8)
  --first KIND     for --nat: browser or agent, the first of each two; the other is an agent (agent)
  --json FILE      writes the measurements as a list of flat records
  --markdown       prints the table as Markdown
  --help           this text`

const line = new CommandLine('network')
/** The remedy of an unknown link. */
const LINKS = `Links: ${MEASURED_LINKS.map(({ name }) => name).join(', ')}.`
const ENDS = ['browser', 'agent'] as const

function linksOf(names: string | undefined) {
  return (names?.split(',') ?? MEASURED_LINKS.map(({ name }) => name)).map(
    (name) => MEASURED_LINKS.find((link) => link.name === name) ?? fail('bench.link', `There is no “${name}”.`, LINKS),
  )
}

function tableOf(figures: readonly Measurement[]): Table {
  const links = [...new Set(figures.map(({ link }) => link))]
  const metrics = [...new Set(figures.map(({ metric, unit }) => `${metric}, ${unit}`))]
  const cell = (link: string, name: string) =>
    figures.find((figure) => figure.link === link && `${figure.metric}, ${figure.unit}` === name)?.value ?? '–'
  return [['', ...links], ...metrics.map((name) => [name, ...links.map((link) => String(cell(link, name)))])]
}

async function natBench(first: (typeof ENDS)[number], print: (text: string) => void): Promise<number> {
  const program = path.join(import.meta.dirname, '..', '..', 'wan', 'programs', 'natMatrix.ts')
  const matrix = await resultInside<NatMatrix>(program, [first])
  for (const turn of matrix.hasTurn ? [true, false] : [false]) print(`\n${terminalTable(matrixTable(matrix, turn))}`)
  if (!matrix.hasTurn) print('\nThere is no coturn here: nothing with TURN was tried.')
  return matrix.rows.every((row) => row.way === bestWay(row) && !row.openMs.includes(null)) ? 0 : 1
}

/**
 * @returns the exit code
 * @throws SkeinError `bench.option`, `bench.link`, `bench.box`
 */
export async function networkBench(
  args: readonly string[],
  print: (text: string) => void,
  say: (text: string) => void,
): Promise<number> {
  const options = line.read(args, {
    ...{ ends: TEXT, link: TEXT, seconds: TEXT, nat: FLAG, first: TEXT },
    ...{ train: FLAG, batch: TEXT, codec: TEXT, steps: TEXT },
    ...{ merge: FLAG, 'inner-steps': TEXT, overlap: TEXT },
  }).values
  if (options.help) {
    print(USAGE)
    return 0
  }
  const links = linksOf(options.link)
  const seconds = line.number('seconds', options.seconds ?? '12', { least: 2, most: 600 })
  const ends = line.choice('ends', options.ends ?? 'browser', ENDS)
  const first = line.choice('first', options.first ?? 'agent', ENDS)
  if (!isInside()) {
    const reason = whyNoBox()
    if (reason) fail('bench.box', `No network can be made on this machine: ${reason}.`, 'Run it as root on Linux.')
    if (options.nat) return natBench(first, print)
    if (options.train || options.merge) {
      const batch = line.number('batch', options.batch ?? '192', { whole: true, least: 4, most: 4096 })
      const steps = line.number('steps', options.steps ?? '8', { whole: true, least: 4, most: 1000 })
      const codec = line.choice('codec', options.codec ?? 'bottleneck-f16', codecNameSchema.options)
      const innerSteps = line.number('inner-steps', options['inner-steps'] ?? '6', {
        whole: true,
        least: 2,
        most: 1000,
      })
      const most = innerSteps - 1
      const overlap = line.number('overlap', options.overlap ?? `${Math.min(5, most)}`, { whole: true, least: 1, most })
      const named = options.link ? links : MEASURED_LINKS.filter(({ trained }) => trained)
      const training = options.train
        ? trainingOver(named, { batch, steps, codec })
        : mergingOver(named, { innerSteps, overlap, steps })
      const { table, records } = await training
      print(options.markdown ? markdownTable(table) : terminalTable(table))
      if (options.json) writeFileSync(options.json, `${JSON.stringify(records, null, 2)}\n`)
      return 0
    }
    return runInside(process.execPath, process.argv.slice(1))
  }
  const bench = await LinkBench.open(ends)
  const figures: Measurement[] = []
  try {
    for (const link of links) {
      say(`${link.name} …`)
      const { measured, routerLateMs } = await bench.measure(link, { bulkSeconds: seconds, messages: 200 })
      figures.push(...measured)
      if (routerLateMs > 10) say(`  The machine was busy: packets left up to ${routerLateMs.toFixed(0)} ms late.`)
    }
  } finally {
    await bench.close()
  }
  const table = tableOf(figures)
  print(options.markdown ? markdownTable(table) : terminalTable(table))
  const where = { where: ends === 'browser' ? 'chromium' : 'node', impl: 'skein 0.1.0' }
  if (options.json) {
    writeFileSync(
      options.json,
      `${JSON.stringify(
        figures.map((figure) => ({ ...where, ...figure })),
        null,
        2,
      )}\n`,
    )
  }
  return 0
}
