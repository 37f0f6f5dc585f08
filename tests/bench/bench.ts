/** Owns `npm run bench`: opens the contenders, measures what was asked for, prints tables and writes records. */
import { writeFileSync } from 'node:fs'
import { SkeinError } from '../../src/protocol/errors.ts'
import { PEERS, SKEIN, type EngineSpec, type Place } from './engines.ts'
import type { Entrant, Teller } from './entrant.ts'
import { openPlace } from './entrants.ts'
import { KERNEL_PACE, measureKernel, QUICK_KERNEL_PACE } from './measureKernels.ts'
import { againstPeak, measureTraining, trainPace } from './measureTraining.ts'
import { BENCH_USAGE, benchOptions, type BenchOptions } from './options.ts'
import { installedPeers } from './peers/install.ts'
import { openTorch } from './peers/torch.ts'
import { recordsSchema, type KernelRecord, type TrainRecord } from './records.ts'
import { kernelTables, lossTable, markdownTable, terminalTable, trainTables, type Table } from './report.ts'
import { kernelCases, WORKS, type Work } from './works.ts'

/** Tables go to the output, all that is said on the way to the other stream. */
const print = (text: string) => process.stdout.write(`${text}\n`)

function terminalTeller(): Teller {
  const { stderr } = process
  const clear = stderr.isTTY ? '\r\u001b[K' : ''
  return {
    say: (text) => void stderr.write(`${clear}${text}\n`),
    now: (text) => {
      if (stderr.isTTY) stderr.write(`${clear}… ${text}`.slice(0, (stderr.columns ?? 80) + clear.length - 1))
    },
  }
}

const show = ({ markdown }: BenchOptions, title: string, table: Table) =>
  print(`\n${title}\n\n${markdown ? markdownTable(table) : terminalTable(table)}`)

const closeAll = (entrants: readonly Entrant[]) => Promise.all(entrants.map((entrant) => entrant.close()))

/** Runs `measure` with the engines opened in one place, and closes everything after it. */
async function inPlace<T>(
  place: Place,
  engines: readonly EngineSpec[],
  teller: Teller,
  measure: (enter: () => Promise<Entrant[]>) => Promise<T>,
): Promise<T> {
  const stage = await openPlace(place, engines, teller)
  try {
    return await measure(() => stage.enter())
  } finally {
    await stage.close()
  }
}

async function benchKernels(options: BenchOptions, engines: readonly EngineSpec[], teller: Teller) {
  const records: KernelRecord[] = []
  for (const place of options.places) {
    await inPlace(place, engines, teller, async (enter) => {
      const entrants = await enter()
      const software = entrants.every((entrant) => entrant.software)
      const cases = kernelCases(software, options.quick)
      for (const [index, kernel] of cases.entries()) {
        const pace = options.quick ? QUICK_KERNEL_PACE : KERNEL_PACE
        const found = await measureKernel(entrants, kernel, pace, {
          ...teller,
          now: (text) => teller.now(`[${place} ${index + 1}/${cases.length}] ${text}`),
        })
        records.push(...found)
      }
    })
  }
  for (const { title, table } of kernelTables(records)) show(options, title, table)
  return records
}

/** GFLOP/s of the best product that anyone here computes: what a training step is held against. */
async function measuredPeak(entrants: readonly Entrant[], quick: boolean, teller: Teller): Promise<number> {
  const software = entrants.every((entrant) => entrant.software)
  const sizes = quick ? [256] : software ? [512, 1024] : [1024, 2048, 4096]
  const pace = quick ? QUICK_KERNEL_PACE : { ...KERNEL_PACE, rounds: 4 }
  let peak = 0
  for (const n of sizes) {
    const records = await measureKernel(entrants, { op: 'matmul', form: 'nn', m: n, n, k: n }, pace, teller)
    peak = Math.max(peak, ...records.map(({ gflops }) => gflops))
  }
  return peak
}

function worksFor(options: BenchOptions, software: boolean, teller: Teller): Work[] {
  const names = options.works ?? (options.quick ? ['w1' as const] : (Object.keys(WORKS) as (keyof typeof WORKS)[]))
  return names.flatMap((name) => {
    if (!WORKS[name].hardwareOnly || !software) return [WORKS[name]]
    teller.say(`${name} is left out: it is for hardware, and this adapter is software.`)
    return []
  })
}

async function benchTraining(options: BenchOptions, engines: readonly EngineSpec[], teller: Teller) {
  const records: TrainRecord[] = []
  const references = new Map<string, readonly number[]>()
  const pace = trainPace(options.quick, options.limitSeconds * 1000)
  for (const place of options.places) {
    const trainers = engines.filter(({ trains }) => trains)
    await inPlace(place, trainers, teller, async (enter) => {
      const first = await enter()
      const software = first.every((entrant) => entrant.software)
      let peak = await measuredPeak(first, options.quick, teller)
      await closeAll(first)
      const here: TrainRecord[] = []
      for (const work of worksFor(options, software, teller)) {
        const given = references.get(work.name)
        // PyTorch stands outside any place: once is enough.
        const torch = options.peers && !given ? openTorch(teller.say) : null
        const entrants = [...(torch ? [torch] : []), ...(await enter())]
        const outcome = await measureTraining(entrants, work, pace, teller, given)
        const { records: found, losses, reference } = outcome
        await closeAll(entrants)
        references.set(work.name, reference)
        here.push(...found)
        show(options, `Losses of ${work.name} in ${place}`, lossTable(losses))
      }
      // Once more: a machine that was busy before makes the share of its peak too large.
      const last = await enter()
      peak = Math.max(peak, await measuredPeak(last, options.quick, teller))
      await closeAll(last)
      records.push(...againstPeak(here, peak))
    })
  }
  for (const { title, table } of trainTables(records)) show(options, title, table)
  return records
}

async function main(): Promise<number> {
  const [first, ...rest] = process.argv.slice(2)
  // These measure no engine: they have command lines of their own.
  if (first === 'network') return (await import('./network/command.ts')).networkBench(rest, print, terminalTeller().say)
  if (first === 'audit') return (await import('./audit/command.ts')).auditBench(rest, print, terminalTeller().say)
  if (first === 'codec') return (await import('./codec/command.ts')).codecBench(rest, print, terminalTeller())
  if (first === 'sync') return (await import('./sync/command.ts')).syncBench(rest, print, terminalTeller())
  const options = benchOptions(process.argv.slice(2))
  if (!options) {
    print(BENCH_USAGE)
    return 0
  }
  const teller = terminalTeller()
  const engines = [SKEIN, ...(options.peers ? installedPeers(teller.say) : [])]
  const measure = options.command === 'kernels' ? benchKernels : benchTraining
  const records = recordsSchema.parse(await measure(options, engines, teller))
  if (options.json) writeFileSync(options.json, `${JSON.stringify(records, null, 2)}\n`)
  const counted = records.some(({ impl }) => impl.startsWith(`${SKEIN.name} `))
  if (!counted) teller.say('Skein has no record that counts.')
  if (PEERS.length && !options.peers) teller.say('\nOther engines beside Skein: --peers.')
  return counted ? 0 : 1
}

main().then(
  (code) => process.exit(code),
  (caught: unknown) => {
    console.error(caught instanceof SkeinError ? `\n${caught.message}\n  ${caught.remedy}` : caught)
    process.exit(1)
  },
)
