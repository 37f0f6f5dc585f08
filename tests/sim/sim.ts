/** Owns `npm run sim`: runs many seeds on all cores, holds throughput against a calm fleet, and says what went wrong. */
import { writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { runFleet, seatsOf, type FleetOptions, type FleetOutcome } from './fleet.ts'
import { runMutations } from './mutations.ts'
import { fleetArguments, SIM_USAGE, simOptions, type SimOptions } from './options.ts'
import type { Job, JobDone } from './seedWorker.ts'
import { shrink } from './shrink.ts'

const print = (text: string) => process.stdout.write(`${text}\n`)
const say = (text: string) => process.stderr.write(`${text}\n`)

/** Runs the jobs on worker threads, in order of asking; a worker that dies ends the whole command. */
async function runJobs(
  jobs: readonly Job[],
  workers: number,
  done: (job: Job, result: JobDone) => void,
): Promise<void> {
  let next = 0
  const work = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const worker = new Worker(new URL('./seedWorker.ts', import.meta.url))
      let job: Job | undefined
      const give = () => {
        job = jobs[next++]
        if (job) worker.postMessage(job)
        else void worker.terminate().then(() => resolve())
      }
      worker.on('message', (result: JobDone) => {
        done(job!, result)
        give()
      })
      worker.on('error', reject)
      give()
    })
  await Promise.all(Array.from({ length: Math.min(workers, jobs.length) }, work))
}

const percent = (x: number) => `${(100 * x).toFixed(1)} %`
const replayOf = (fleet: FleetOptions, seed: number) =>
  `npm run sim -- ${fleetArguments(fleet)} --seeds 1 --seed ${seed} --trace`

function reportFailure({ fleet, shrink: wanted }: SimOptions, { seed, violation }: FleetOutcome): void {
  print(`\nseed ${seed}: ${violation}`)
  print(`  replay: ${replayOf(fleet, seed)}`)
  if (!wanted) return
  const smallest = shrink(seed, fleet, violation!, say)
  if (smallest) print(`  smallest: ${replayOf(smallest.options, smallest.seed)}\n            ${smallest.violation}`)
}

/** Throughputs of one kind of world over those of another with the same seeds, the least first. */
function ratiosOf(of: readonly FleetOutcome[], over: ReadonlyMap<number, FleetOutcome>): number[] {
  return of
    .filter(({ seed, violation }) => !violation && over.get(seed)?.violation === null)
    .map(({ seed, throughput }) => throughput / over.get(seed)!.throughput)
    .sort((a, b) => a - b)
}

const medianOf = (ratios: readonly number[]) => ratios[Math.floor((ratios.length - 1) / 2)] ?? null

async function simulate(options: SimOptions): Promise<number> {
  const { fleet, seeds, seed: first, calmEvery } = options
  const calm: FleetOptions = { ...fleet, churn: 0, restarts: 0, accidents: 0 }
  const bySeat: FleetOptions = { ...calm, nearer: Infinity }
  const jobs: Job[] = []
  for (let seed = first; seed < first + seeds; seed++) {
    if (calmEvery > 0 && (seed - first) % calmEvery === 0) {
      jobs.push({ seed, options: calm })
      if (fleet.regions > 1) jobs.push({ seed, options: bySeat })
    }
    jobs.push({ seed, options: fleet })
  }
  const outcomes = new Map<number, FleetOutcome>()
  const calmOutcomes = new Map<number, FleetOutcome>()
  const bySeatOutcomes = new Map<number, FleetOutcome>()
  const outcomesOf = new Map([
    [fleet, outcomes],
    [calm, calmOutcomes],
    [bySeat, bySeatOutcomes],
  ])
  const started = performance.now()
  let [events, cpuMs, finished] = [0, 0, 0]
  const workers = options.workers ?? availableParallelism()
  say(`${fleet.nodes} nodes, ${fleet.stages} stages of ${seatsOf(fleet)}, ${seeds} seeds on ${workers} workers`)
  await runJobs(jobs, workers, (job, { outcome, wallMs }) => {
    outcomesOf.get(job.options)!.set(outcome.seed, outcome)
    finished++
    events += outcome.events
    cpuMs += wallMs
    const { seed, violation, commits, rollbacks, recovered } = outcome
    const what = violation ?? `${commits} commits, ${rollbacks} rollbacks, ${recovered} leases recovered`
    const how = job.options === calm ? ' without churn' : job.options === bySeat ? ' without churn, lanes by seat' : ''
    const seconds = `${outcome.virtualSeconds.toFixed(0)} s in ${(wallMs / 1000).toFixed(1)} s`
    say(`${finished}/${jobs.length} seed ${seed}${how}: ${what} (${seconds})`)
  })
  const wallSeconds = (performance.now() - started) / 1000
  const failed = [...outcomesOf.values()]
    .flatMap((of) => [...of.values()])
    .filter(({ violation }) => violation !== null)
  const all = [...outcomes.values()].sort((a, b) => a.seed - b.seed)
  const sum = (of: (outcome: FleetOutcome) => number) => all.reduce((total, outcome) => total + of(outcome), 0)
  const ratios = ratiosOf(all, calmOutcomes)
  const median = medianOf(ratios)
  const nearRatios = ratiosOf([...calmOutcomes.values()], bySeatOutcomes)
  const nearMedian = medianOf(nearRatios)
  const good = all.filter(({ violation }) => !violation)
  const stepSeconds = good.length > 0 ? good.reduce((total, o) => total + 1 / o.throughput, 0) / good.length : NaN
  const rows: [string, string][] = [
    ['seeds', `${all.length}`],
    ['violations', `${failed.length}`],
    ['commits', `${sum((o) => o.commits)}`],
    ['virtual seconds a step', stepSeconds.toFixed(1)],
    ['leases recovered', `${sum((o) => o.recovered)}`],
    ['rollbacks', `${sum((o) => o.rollbacks)}`],
    ['server restarts', `${sum((o) => o.restarts)}`],
    [
      'throughput with churn',
      median === null
        ? 'not measured'
        : `${percent(median)} of the calm fleet's (median; least ${percent(ratios[0]!)}; ${ratios.length} seeds)`,
    ],
    ...(fleet.regions > 1
      ? [
          [
            'lanes near each other',
            nearMedian === null
              ? 'not measured'
              : `${percent(nearMedian)} of the throughput by seat (median; least ${percent(nearRatios[0]!)}; ${nearRatios.length} seeds)`,
          ] as [string, string],
        ]
      : []),
    ['events a second', `${Math.round(events / (cpuMs / 1000)).toLocaleString('en')} a worker`],
    ['wall seconds', wallSeconds.toFixed(1)],
  ]
  print('')
  for (const [name, value] of rows) print(`${name.padEnd(24)}${value}`)
  for (const outcome of failed.slice(0, 3)) reportFailure(options, outcome)
  if (options.json) {
    const { nodes, stages } = fleet
    const record = { nodes, stages, seeds, violations: failed.length, throughputRatio: median, wallSeconds }
    const near =
      fleet.regions > 1 ? { regions: fleet.regions, nearRatio: nearMedian, nearRatioLeast: nearRatios[0] ?? null } : {}
    const ratio = { throughputRatioLeast: ratios[0] ?? null, ratioSeeds: ratios.length, churn: fleet.churn }
    writeFileSync(
      options.json,
      `${JSON.stringify([{ where: 'node', impl: 'skein', ...record, ...ratio, ...near }], null, 2)}\n`,
    )
  }
  return failed.length > 0 ? 1 : 0
}

function trace({ fleet, seed }: SimOptions): number {
  const outcome = runFleet(seed, fleet, true)
  for (const line of outcome.trace!) print(line)
  print(outcome.violation ?? `${outcome.commits} commits, ${outcome.rollbacks} rollbacks, nothing amiss`)
  return outcome.violation ? 1 : 0
}

async function main(): Promise<number> {
  let options: SimOptions | null
  try {
    options = simOptions(process.argv.slice(2))
  } catch (caught) {
    say(`skein: ${(caught as Error).message}\n\n${SIM_USAGE}`)
    return 1
  }
  if (!options) {
    print(SIM_USAGE)
    return 0
  }
  if (options.mutations) return runMutations(print)
  // Loaded only here: it brings a GPU.
  if (options.liars) return (await import('./liars/command.ts')).simulateLiars(options.liars, options, print, say)
  return options.trace ? trace(options) : simulate(options)
}

process.exitCode = await main()
