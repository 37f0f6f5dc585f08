/** Owns summary.json: a run's outcome in figures. */
import { z } from 'zod'
import { codecNameSchema } from '../../../src/protocol/runConfig.ts'
import { chaosSummarySchema } from './chaos/report.ts'
import type { FollowedRun } from './follow.ts'
import { speed } from './progress.ts'

export const demoSummarySchema = z.object({
  steps: z.int(),
  stages: z.int(),
  volunteers: z.int(),
  /** Mean loss of each step in nats, step 1 first. */
  trainLoss: z.array(z.number()),
  /** Mean over the held-out tail, in nats. */
  valLoss: z.number().nullable(),
  /** Tokens trained a second, from the first step's start to the last commit. */
  tokensPerSecond: z.number(),
  /** Payload of a token that crosses one boundary in one direction; null where a run has no boundary. */
  boundaryBytesPerToken: z.number().nullable(),
  /** From the command's start to the exported model. */
  wallSeconds: z.number(),
  /** Leases that moved from a lost or slow owner to another. */
  recoveredLeases: z.int(),
  codec: codecNameSchema,
  sync: z.string(),
  adapter: z.string(),
  /** What the disturbed run went through, with `--chaos`; all figures above are that run's. */
  chaos: chaosSummarySchema.optional(),
})
export type DemoSummary = z.infer<typeof demoSummarySchema>

export function demoSummary(
  { detail, metrics }: FollowedRun,
  more: { volunteers: number; wallSeconds: number; adapter: string },
): DemoSummary {
  const { config } = detail
  return {
    steps: detail.step,
    stages: config.stages,
    volunteers: more.volunteers,
    trainLoss: metrics.map((metric) => metric.loss),
    valLoss: detail.valLoss,
    tokensPerSecond: speed(metrics)?.tokensPerSecond ?? 0,
    boundaryBytesPerToken: detail.boundaryBytesPerToken,
    wallSeconds: more.wallSeconds,
    recoveredLeases: detail.recovered,
    codec: config.codec,
    sync: config.sync,
    adapter: more.adapter,
  }
}

/** Whether the last tenth of the steps lies below the first; a run of one step is held against its validation loss. */
export function lossFell({ trainLoss, valLoss }: Pick<DemoSummary, 'trainLoss' | 'valLoss'>): boolean {
  const first = trainLoss[0]
  if (first === undefined) return false
  if (trainLoss.length === 1) return valLoss !== null && valLoss < first
  const share = Math.max(1, Math.floor(trainLoss.length / 10))
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length
  return mean(trainLoss.slice(-share)) < mean(trainLoss.slice(0, share))
}
