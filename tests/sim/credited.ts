/** Owns what must hold of credit in the simulation, at every commit. */
import type { Round } from '../../server/orchestrator/round.ts'
import type { OrchestratorCommand, Run } from '../../server/orchestrator/types.ts'
import { microbatchCredit } from '../../src/model/credit.ts'
import { STANDBY_PERCENT } from '../../src/protocol/payment.ts'
import { workIn } from '../../src/protocol/receipt.ts'
import { demand, type Watch } from './invariants.ts'

/**
 * Credit is for the work in the committed sum and for all of it: each microbatch of each stage is credited once, to the
 * device that owns it. Where somebody signs what is not so, it costs that one and who dealt with it, and nobody else.
 */
export function checkCredit(
  { work, claims }: Extract<OrchestratorCommand, { type: 'commitStep' }>,
  run: Run,
  round: Round,
  watch: Watch,
): void {
  const { step, stages } = round
  const { devices, forgers } = watch
  demand(forgers.size > 0 || claims.disputed === 0, () => `step ${step}: honest devices contradict each other`)
  for (const [stage, { owner }] of stages.entries()) {
    const due = new Map<string, { most: number; least: number }>()
    for (let place = 0; place < owner.length; place++) {
      const device = devices.get(owner[place]!)!
      const concerned = [stages[stage - 1], stages[stage], stages[stage + 1]].flatMap((s) => s?.owner[place] ?? [])
      const known = due.get(device) ?? { most: 0, least: 0 }
      known.most += 1
      if (!concerned.some((id) => forgers.has(id))) known.least += 1
      due.set(device, known)
    }
    const each = microbatchCredit(run.config, stage)
    const rows = new Set<string>()
    for (const entry of workIn(work)) {
      if (entry.stage !== stage) continue
      demand(!rows.has(entry.device), () => `step ${step}, stage ${stage}: ${entry.device} is credited in two rows`)
      rows.add(entry.device)
      const sum = BigInt(entry.microbatches) * each
      demand(
        entry.step === step && BigInt(entry.credit) === sum && entry.receipt !== null,
        () => `step ${step}, stage ${stage}: ${entry.credit} for ${entry.microbatches} microbatches of ${each}`,
      )
      const owed = due.get(entry.device)
      demand(
        owed !== undefined,
        () => `step ${step}, stage ${stage}: ${entry.device} is credited and has no part in it`,
      )
      owed.most -= entry.microbatches
      owed.least -= entry.microbatches
    }
    const standing = work.filter((entry) => entry.kind === 'standby' && entry.stage === stage)
    const shared = standing.reduce((sum, { credit }) => sum + BigInt(credit), 0n)
    demand(
      shared * 100n <= each * BigInt(owner.length) * STANDBY_PERCENT,
      () => `step ${step}, stage ${stage}: ${shared} for standing by, out of ${owner.length} microbatches of ${each}`,
    )
    for (const { device } of standing)
      demand(
        !rows.has(device),
        () => `step ${step}, stage ${stage}: ${device} is credited for standing by and for work`,
      )
    for (const [device, { most, least }] of due) {
      watch.uncredited += most
      demand(most >= 0, () => `step ${step}, stage ${stage}: ${device} is credited ${-most} microbatches too many`)
      demand(least <= 0, () => `step ${step}, stage ${stage}: ${device} lacks credit for ${least} microbatches`)
    }
  }
}
