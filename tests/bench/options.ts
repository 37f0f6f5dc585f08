/** Owns what `npm run bench` was asked to do. */
import { fail } from '../../src/protocol/errors.ts'
import { CommandLine, FLAG, TEXT } from './commandLine.ts'
import type { Place } from './engines.ts'
import { isWorkName, WORKS, type WorkName } from './works.ts'

export const BENCH_USAGE = `npm run bench -- kernels|train|network|audit|codec|sync [options]
  kernels          f32 products and attention: GFLOP/s, and the share of the fastest
  audit            how far apart honest devices are, for the tolerances of audits: see \`npm run bench -- audit --help\`
  codec            what each boundary codec costs in bytes and in loss: see \`npm run bench -- codec --help\`
  sync             bytes and losses of exact merges and of local steps: see \`npm run bench -- sync --help\`
  network          how full two ends make a line with delay and loss: see \`npm run bench -- network --help\`
  train            whole training steps: tokens/s, share of the measured peak, dispatches, memory, losses
  --where PLACE    chromium, dawn or both (chromium)
  --work W1,W2     for train: ${Object.keys(WORKS).join(', ')} (w1,w2; on a GPU w3 too)
  --peers          other engines beside Skein in the same run; installs them under tests/bench
  --json FILE      writes the measurements as a list of flat records
  --markdown       prints the tables as Markdown
  --quick          fewer shapes, rounds and steps: shows that everything runs
  --limit SECONDS  the most that one engine may train at one work (300); a slower one is scored by what it did
  --help           this text`

export interface BenchOptions {
  readonly command: 'kernels' | 'train'
  readonly places: readonly Place[]
  /** Null: all that suit the adapter. */
  readonly works: readonly WorkName[] | null
  readonly peers: boolean
  readonly json: string | null
  readonly markdown: boolean
  readonly quick: boolean
  readonly limitSeconds: number
}

const line = new CommandLine('')

/**
 * @returns null when only the usage was asked for
 * @throws SkeinError `bench.command`, `bench.option`, `bench.work`
 */
export function benchOptions(args: readonly string[]): BenchOptions | null {
  const texts = { where: TEXT, work: TEXT, limit: TEXT }
  const { values, positionals } = line.read(args, { ...texts, peers: FLAG, quick: FLAG }, true)
  if (values.help) return null
  const [command, ...more] = positionals
  if ((command !== 'kernels' && command !== 'train') || more.length > 0) {
    const given =
      positionals.length > 0 ? `“${positionals.join(' ')}” cannot be measured` : 'Nothing to measure was named'
    fail('bench.command', `${given}.`, 'Say `npm run bench -- kernels` or `npm run bench -- train`.')
  }
  if (values.work !== undefined && command !== 'train') {
    line.refuse('--work is for train; kernels measures its own shapes.')
  }
  return {
    command,
    places: placesOf(values.where ?? 'chromium'),
    works: values.work === undefined ? null : worksOf(values.work),
    peers: values.peers,
    json: values.json ?? null,
    markdown: values.markdown,
    quick: values.quick,
    limitSeconds: limitOf(values.limit ?? '300'),
  }
}

function placesOf(where: string): readonly Place[] {
  const place = line.choice('where', where, ['chromium', 'dawn', 'both'])
  return place === 'both' ? ['chromium', 'dawn'] : [place]
}

function worksOf(text: string): readonly WorkName[] {
  return text.split(',').map((name) => {
    if (isWorkName(name)) return name
    return fail('bench.work', `There is no work “${name}”.`, `Works: ${Object.keys(WORKS).join(', ')}.`)
  })
}

function limitOf(text: string): number {
  const seconds = Number(text)
  if (text !== '' && seconds > 0 && Number.isFinite(seconds)) return seconds
  return line.refuse(`--limit takes seconds, not “${text}”.`)
}
