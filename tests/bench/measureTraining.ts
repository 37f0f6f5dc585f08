/** Owns the measurement of training: all contenders train the same steps in turns, so that noise hits all alike. */
import { compareLosses, LOSS_TOLERANCE } from './agreement.ts'
import type { GpuWork } from './contender.ts'
import { isSkein, reason, type Entrant, type Teller } from './entrant.ts'
import { parameters, trainFlopsPerToken } from './flops.ts'
import type { TrainRecord } from './records.ts'
import { COMPARED_STEPS, SCORED_STEPS, WORKS, type Work } from './works.ts'

export interface TrainPace {
  /** Losses wanted of each contender. */
  readonly steps: number
  /** A turn takes as many steps as fit into this, at least one. */
  readonly roundMs: number
  /** A contender stops once it has trained this long. */
  readonly limitMs: number
}

export const trainPace = (quick: boolean, limitMs: number): TrainPace => {
  return { steps: quick ? COMPARED_STEPS : SCORED_STEPS + 1, roundMs: quick ? 200 : 1500, limitMs }
}

interface Runner {
  readonly entrant: Entrant
  readonly losses: number[]
  /** Milliseconds of a step, the best of all turns. */
  best: number
  spent: number
  /** What one step asked of the GPU. */
  perStep: { dispatches: number; submits: number } | null
  work: GpuWork | null
}

export interface TrainOutcome {
  readonly records: TrainRecord[]
  /** Losses of every contender by its name and version, those that disagree too. */
  readonly losses: ReadonlyMap<string, readonly number[]>
  /** The losses that all were held against. */
  readonly reference: readonly number[]
}

/** The records with their share of `peakGflops`, the best product measured in the same place and run. */
export function againstPeak(records: readonly TrainRecord[], peakGflops: number): TrainRecord[] {
  return records.map((record) => {
    if (record.where === 'cpu') return record
    const flops = record.tokensPerSecond * trainFlopsPerToken(WORKS[record.work].config.model)
    return { ...record, mfu: flops / (peakGflops * 1e9), peakGflops }
  })
}

/**
 * `reference`: losses that all must agree with; without them those of the first contender that has enough stand in, which
 * is PyTorch or Skein.
 * Throws when Skein fails; a failing peer is left out and told.
 */
export async function measureTraining(
  entrants: readonly Entrant[],
  work: Work,
  pace: TrainPace,
  teller: Teller,
  reference?: readonly number[],
): Promise<TrainOutcome> {
  let runners: Runner[] = []
  const attempt = async (runner: Runner, action: () => Promise<void>) => {
    try {
      await action()
      return true
    } catch (caught) {
      if (isSkein(runner.entrant)) throw caught
      teller.say(`${work.name}: ${runner.entrant.impl} is left out: ${reason(caught)}`)
      return false
    }
  }
  try {
    for (const entrant of entrants) {
      teller.now(`${work.name}: ${entrant.impl} prepares`)
      const runner: Runner = { entrant, losses: [], best: Infinity, spent: 0, perStep: null, work: null }
      if (await attempt(runner, () => warmUp(runner, work, pace))) runners.push(runner)
    }
    while (runners.some((runner) => wants(runner, pace))) {
      for (const runner of [...runners]) {
        // One that has all its steps goes on while others train: its later turns see the same noise as theirs.
        if (runner.spent >= pace.limitMs) continue
        teller.now(progress(work, runners, runner))
        if (!(await attempt(runner, () => turn(runner, pace)))) runners = runners.filter((one) => one !== runner)
      }
    }
    for (const runner of runners) runner.work = await runner.entrant.contender.gpuWork()
  } finally {
    for (const { contender } of entrants) await contender.releaseTraining().catch(() => undefined)
  }
  return outcome(runners, work, teller, reference)
}

const wants = ({ losses, spent }: Runner, { steps, limitMs }: TrainPace) => losses.length < steps && spent < limitMs

function progress({ name }: Work, runners: readonly Runner[], current: Runner): string {
  const done = runners.map(({ entrant, losses }) => `${entrant.impl.split(' ')[0]} ${losses.length}`)
  return `${name}: steps done: ${done.join(', ')}; now ${current.entrant.impl}`
}

/** The first step compiles, the second settles unless the contender is very slow, the one after it is counted. */
async function warmUp(runner: Runner, work: Work, { limitMs }: TrainPace): Promise<void> {
  const { contender } = runner.entrant
  await contender.prepareTraining(work.name)
  await train(runner, 1, false)
  if (runner.spent < limitMs / 4) await train(runner, 1, true)
  const before = await contender.gpuWork()
  await train(runner, 1, true)
  const after = await contender.gpuWork()
  if (before && after) {
    runner.perStep = { dispatches: after.dispatches - before.dispatches, submits: after.submits - before.submits }
  }
}

async function train(runner: Runner, count: number, timed: boolean): Promise<void> {
  const { losses, milliseconds } = await runner.entrant.contender.train(runner.losses.length + 1, count)
  runner.losses.push(...losses)
  runner.spent += milliseconds
  if (timed) runner.best = Math.min(runner.best, milliseconds / count)
}

function turn(runner: Runner, pace: TrainPace): Promise<void> {
  return train(runner, Math.max(1, Math.floor(pace.roundMs / runner.best)), true)
}

function outcome(
  runners: readonly Runner[],
  work: Work,
  teller: Teller,
  given: readonly number[] | undefined,
): TrainOutcome {
  const { model, batch } = work.config
  const tokens = batch * model.blockSize
  const enough = runners.find(({ losses }) => losses.length >= COMPARED_STEPS) ?? runners[0]
  const reference = given ?? enough?.losses ?? []
  const records: TrainRecord[] = []
  for (const { entrant, losses, best, perStep, work: done } of runners) {
    const { steps, difference } = compareLosses(losses, reference)
    if (!(difference <= LOSS_TOLERANCE)) {
      teller.say(`${work.name}: the losses of ${entrant.impl} are off by ${difference.toExponential(1)}: not counted.`)
      continue
    }
    records.push({
      where: entrant.where,
      adapter: entrant.adapter,
      impl: entrant.impl,
      work: work.name,
      parameters: parameters(model),
      tokensPerSecond: (tokens / best) * 1000,
      mfu: null,
      peakGflops: null,
      dispatchesPerStep: perStep?.dispatches ?? null,
      submitsPerStep: perStep?.submits ?? null,
      gpuBytes: done?.peakBytes ?? null,
      steps: losses.length,
      lossAfter50: losses[SCORED_STEPS] ?? null,
      comparedSteps: steps,
      lossDifference: difference,
    })
  }
  return { records, losses: new Map(runners.map(({ entrant, losses }) => [entrant.impl, losses])), reference }
}
