/** Owns `npm run bench -- audit`: pairs honest devices on recorded stages and prints how far apart they are. */
import '../../../server/cli/pageImports.mjs'
import { writeFileSync } from 'node:fs'
import { beyond, type Distances } from '../../../src/audit/compare.ts'
import { toleranceOf } from '../../../src/audit/tolerances.ts'
import { fail } from '../../../src/protocol/errors.ts'
import { CommandLine, FLAG, TEXT } from '../commandLine.ts'
import { markdownTable, terminalTable, type Table } from '../report.ts'
import type { Archive } from './archive.ts'
import { largestOf, type PairClass } from './calibrate.ts'

export const AUDIT_USAGE = `npm run bench -- audit [options]: how far apart honest devices are, and the tolerances of audits that follow

  Trains a small model to record stages at three points, lets every kernel variant that the adapter can run answer the
  same microbatches, and compares each pair under every codec. On Dawn.
  --with FILE      questions and answers of another machine: answers the same, and pairs with its answers (may be repeated)
  --out FILE       writes questions and all answers, for another machine or for \`npm run sim -- --liars P --recorded FILE\`
  --kernels TEXT   only kernels whose names hold one of these, separated by commas; “none” only pairs what the files hold
  --quick          only kernels that compile fast on a software adapter
  --json FILE      writes the records
  --markdown       prints the table as Markdown
  --help           this text`

const line = new CommandLine('audit')

/** @throws SkeinError `bench.option`, `bench.archive`, `agent.adapter`, `gpu.*` */
export async function auditBench(
  args: readonly string[],
  print: (text: string) => void,
  say: (text: string) => void,
): Promise<number> {
  const options = line.read(args, {
    with: { ...TEXT, multiple: true, default: [] as string[] },
    out: TEXT,
    kernels: TEXT,
    quick: FLAG,
  }).values
  if (options.help) {
    print(AUDIT_USAGE)
    return 0
  }
  // After the hooks that the shaders are loaded by.
  const { gpuSource } = await import('../../../src/agent/adapter.ts')
  const { answerAll, deviceClass, kernelClasses } = await import('./answers.ts')
  const { readArchive, writeArchive } = await import('./archive.ts')
  const { pairClasses, tolerancesFrom } = await import('./calibrate.ts')
  const { PLAN, recordQuestions } = await import('./questions.ts')
  const given = options.with.map(readArchive)
  const wanted = options.kernels?.split(',')
  const known = given.flatMap(({ answered }) => answered)
  let archive: Archive | null = given[0] ? { recording: given[0].recording, answered: known } : null
  if (options.kernels !== 'none') {
    const gpu = await (await gpuSource(null))()
    if (!archive) say(`training ${PLAN.points.at(-1)} steps to record stages`)
    archive ??= { recording: await recordQuestions(gpu, PLAN), answered: [] }
    for (const kernels of kernelClasses(gpu)) {
      const slow = gpu.adapter.software && (kernels.attention === 'flash' || kernels.matmul.startsWith('tiled'))
      if ((options.quick && slow) || (wanted && !wanted.some((text) => kernels.name.includes(text)))) continue
      say(`answering with ${kernels.name}`)
      const stages = await answerAll(gpu, archive.recording, kernels)
      const answered = { device: deviceClass(gpu, kernels), kernels: kernels.name, stages }
      archive = { ...archive, answered: [...archive.answered, answered] }
    }
    gpu.destroy()
  }
  if (!archive) return fail('bench.option', '--kernels none needs answers to pair.', 'Name files with --with.')
  if (options.out) writeArchive(options.out, archive)
  say(`comparing ${archive.answered.length} classes of devices`)
  const classes = pairClasses(archive)
  for (const { device, kernels } of archive.answered)
    print(`${device.vendor} ${device.architecture}, products in ${device.products}: ${kernels}`)
  const table = pairTable(classes)
  print(`\n${options.markdown ? markdownTable(table) : terminalTable(table)}`)
  print(`\nTolerances that follow:\n${JSON.stringify(tolerancesFrom(classes), null, 2)}`)
  if (options.json) writeFileSync(options.json, `${JSON.stringify(recordsOf(archive, classes), null, 2)}\n`)
  const outside = classes.filter((one) => outsideOf(one) > 0)
  for (const one of outside)
    say(`${outsideOf(one)} pairs of ${one.kind} ${one.codec} are beyond the tolerance in force.`)
  return outside.length > 0 ? 1 : 0
}

/** Pairs that the tolerances in force would convict. */
function outsideOf({ kind, codec, pair, distances }: PairClass): number {
  const tolerance = toleranceOf(kind, codec, pair)
  return distances.filter((found) => beyond(found, tolerance) !== null).length
}

const figure = (x: number) => (x === 0 ? '0' : x.toExponential(1))

function typical(distances: readonly Distances[]): number {
  return distances.map(({ median }) => median).toSorted((a, b) => a - b)[Math.floor(distances.length / 2)]!
}

function pairTable(classes: readonly PairClass[]): Table {
  const header = ['tensor', 'codec', 'products', 'pairs of', 'pairs', 'typical', 'median', '90 %', 'largest']
  const rows = classes.map(({ kind, codec, precision, adapters, distances }) => {
    const { median, upper, largest } = largestOf(distances)
    const most = [typical(distances), median, upper, largest].map(figure)
    return [kind, codec, precision, adapters, String(distances.length), ...most]
  })
  return [header, ...rows]
}

function recordsOf({ answered }: Archive, classes: readonly PairClass[]) {
  const adapters = [...new Set(answered.map(({ device }) => `${device.vendor} ${device.architecture}`))].join(', ')
  return classes.map(({ kind, codec, precision, adapters: pairsOf, distances }) => {
    const origin = { where: 'dawn', adapter: adapters, impl: 'skein' }
    return { ...origin, kind, codec, precision, pairsOf, pairs: distances.length, ...largestOf(distances) }
  })
}
