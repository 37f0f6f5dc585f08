/** Owns what a run can pay for: no step begins that could cost more than is left of its budget. */
import { costOf } from '../../src/protocol/payment.ts'
import { saveWhenDue } from './checkpoints.ts'
import { goOn } from './commit.ts'
import { breakGeneration } from './generations.ts'
import type { OrchestratorCommand, OrchestratorState, Run } from './types.ts'

type Commands = OrchestratorCommand[]

/** Why the run cannot begin its next step, in words; null when it can, or has none left to pay for. */
export function shortfall({ purse, step, config }: Run): string | null {
  if (purse === null || step >= config.steps) return null
  const { planckPerPflop, budget, deposited, credit, stepCredit } = purse
  if (costOf(credit + stepCredit, planckPerPflop) <= budget) return null
  const left = budget - costOf(credit, planckPerPflop)
  const cost = costOf(stepCredit, planckPerPflop)
  const rest = `a step can cost ${cost} planck, and of ${budget} planck ${left < 0n ? 0n : left} are left.`
  if (!deposited) return `The budget is used up: ${rest} Raise it, and the run goes on.`
  return `The money is used up, or not there yet: ${rest} Send more to its deposit address within its budget, and the run goes on.`
}

/** Whether the budget reaches for `credit` beside the step under way, which comes first. */
export function affords({ purse, round }: Pick<Run, 'purse' | 'round'>, credit: bigint): boolean {
  if (purse === null) return true
  const settled = round?.apply?.settlement.work
  const step = settled ? settled.reduce((sum, earned) => sum + BigInt(earned.credit), 0n) : purse.stepCredit
  return costOf(purse.credit + step + credit, purse.planckPerPflop) <= purse.budget
}

/**
 * Keeps the step at which the money ends, and then lets the volunteers go: they can work for others, and nothing that was
 * paid for is lost if they never come back.
 */
export function pause(state: OrchestratorState, run: Run, why: string, now: number, commands: Commands): void {
  // Nobody is late while there is nothing to do.
  run.lastProgress = now
  if (run.checkpoint.step < run.step) {
    run.saveSoon = true
    if (!run.saving) saveWhenDue(run, now, commands)
  } else breakGeneration(state, run, why, now, commands)
  rest(run, why, commands)
}

/** Says that the run waits for money. */
export function rest(run: Run, why: string, commands: Commands): void {
  if (run.state === 'paused' && run.detail === why) return
  run.state = 'paused'
  run.detail = why
  commands.push({ type: 'runChanged', runId: run.id })
}

/** A budget never falls: what was begun under it may be on its way. */
export function raiseBudget(state: OrchestratorState, run: Run, budget: bigint, now: number, commands: Commands): void {
  if (!run.purse || budget <= run.purse.budget) return
  run.purse.budget = budget
  commands.push({
    type: 'tell',
    runId: run.id,
    step: run.step,
    text: `The run can spend ${budget} planck in all from here on.`,
  })
  if (run.state !== 'paused' || shortfall(run) !== null) return
  if (run.members.length > 0) goOn(state, run, now, commands)
  else {
    run.state = 'waiting'
    run.detail = 'Waiting for volunteers.'
    run.waitingSince = now
    commands.push({ type: 'runChanged', runId: run.id })
  }
}
