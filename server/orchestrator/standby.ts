/** Owns what standing by earns: a small share of what its stage earns, as far as the run's budget reaches beyond the work. */
import { microbatchCredit } from '../../src/model/credit.ts'
import { STANDBY_PERCENT } from '../../src/protocol/payment.ts'
import type { EarnedCredit, StandbyCredit } from '../../src/protocol/receipt.ts'
import { synced } from './owners.ts'
import { affords } from './purse.ts'
import type { Round } from './round.ts'
import type { OrchestratorState, Run } from './types.ts'

/**
 * A device stands by for a step when it holds its stage's weights, is heard, and neither has leases nor lost any in it.
 * @param work what the step's work earns; a device in it stands by nowhere
 */
export function standbyCredit(
  state: OrchestratorState,
  run: Run,
  round: Round,
  work: readonly EarnedCredit[],
): StandbyCredit[] {
  const earned: StandbyCredit[] = []
  const working = new Set(work.map(({ device }) => device))
  for (const [stage, progress] of round.stages.entries()) {
    const there = synced(state, run, stage).filter(
      ({ id, deviceId }) => !progress.work.has(id) && !progress.revoked.has(id) && !working.has(deviceId),
    )
    if (there.length === 0) continue
    const all = microbatchCredit(run.config, stage) * BigInt(round.microbatches)
    const heads = BigInt(Math.max(progress.work.size, there.length))
    const credit = String((all * STANDBY_PERCENT) / (100n * heads))
    for (const { deviceId: device } of there)
      earned.push({ kind: 'standby', run: run.id, step: round.step, stage, device, credit })
  }
  const sum = earned.reduce((total, { credit }) => total + BigInt(credit), 0n)
  return affords(run, sum) ? earned : []
}
