/** Owns what `npm run bench` was asked to do. */
import { parseArgs } from 'node:util'
import { fail } from '../../src/protocol/errors.ts'
import type { Place } from './engines.ts'
import { isWorkName, WORKS, type WorkName } from './works.ts'

export const BENCH_USAGE = `npm run bench -- kernels|train|audit|codec|sync [options]
  kernels          f32 products and attention: GFLOP/s, and the share of the fastest
  audit            how far apart honest devices are, for the tolerances of audits: see \`npm run bench -- audit --help\`
  codec            what each boundary codec costs in bytes and in loss: see \`npm run bench -- codec --help\`
  sync             bytes and losses of exact merges and of local steps: see \`npm run bench -- sync --help\`
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

const REMEDY = 'Run `npm run bench -- --help` for the options.'

/**
 * @returns null when only the usage was asked for
 * @throws SkeinError `bench.command`, `bench.option`, `bench.work`
 */
export function benchOptions(args: readonly string[]): BenchOptions | null {
  const { values, positionals } = parse(args)
  if (values.help) return null
  const [command, ...more] = positionals
  if ((command !== 'kernels' && command !== 'train') || more.length > 0) {
    const given =
      positionals.length > 0 ? `“${positionals.join(' ')}” cannot be measured` : 'Nothing to measure was named'
    fail('bench.command', `${given}.`, 'Say `npm run bench -- kernels` or `npm run bench -- train`.')
  }
  if (values.work !== undefined && command !== 'train') {
    fail('bench.option', '--work is for train; kernels measures its own shapes.', REMEDY)
  }
  return {
    command,
    places: placesOf(values.where ?? 'chromium'),
    works: values.work === undefined ? null : worksOf(values.work),
    peers: values.peers ?? false,
    json: values.json ?? null,
    markdown: values.markdown ?? false,
    quick: values.quick ?? false,
    limitSeconds: limitOf(values.limit ?? '300'),
  }
}

function parse(args: readonly string[]) {
  try {
    const text = { type: 'string' } as const
    const flag = { type: 'boolean' } as const
    return parseArgs({
      args: [...args],
      strict: true,
      allowPositionals: true,
      options: {
        where: text,
        work: text,
        json: text,
        limit: text,
        peers: flag,
        markdown: flag,
        quick: flag,
        help: { ...flag, short: 'h' },
      },
    })
  } catch (caught) {
    return fail('bench.option', caught instanceof Error ? caught.message : String(caught), REMEDY)
  }
}

function placesOf(where: string): readonly Place[] {
  if (where === 'both') return ['chromium', 'dawn']
  if (where === 'chromium' || where === 'dawn') return [where]
  return fail('bench.option', `--where takes chromium, dawn or both, not “${where}”.`, REMEDY)
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
  return fail('bench.option', `--limit takes seconds, not “${text}”.`, REMEDY)
}
