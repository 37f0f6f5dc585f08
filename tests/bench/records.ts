/** Owns the flat records that `--json` writes, one a measurement. */
import { z } from 'zod'

const positive = z.number().positive()

const origin = {
  /** `cpu` is native code outside a browser: PyTorch. */
  where: z.enum(['chromium', 'dawn', 'cpu']),
  adapter: z.string().min(1),
  /** Name and version. */
  impl: z.string().regex(/^\S+ \S+$/),
}

const kernelFigures = {
  dtype: z.literal('f32'),
  gflops: positive,
  /** Of the fastest contender for this shape in the same place and run. */
  shareOfBest: z.number().positive().max(1),
  /** One run of the kernel, the best of all rounds. */
  milliseconds: positive,
  /** Largest error of the sampled values over the largest of them, against f64. */
  error: z.number().min(0),
}

export const matmulRecordSchema = z.strictObject({
  ...origin,
  op: z.literal('matmul'),
  form: z.enum(['nn', 'nt', 'tn']),
  m: z.int(),
  n: z.int(),
  k: z.int(),
  ...kernelFigures,
})

export const attentionRecordSchema = z.strictObject({
  ...origin,
  op: z.literal('attention'),
  pass: z.enum(['forward', 'forwardBackward']),
  batch: z.int(),
  heads: z.int(),
  seq: z.int(),
  headDim: z.int(),
  ...kernelFigures,
})

export const trainRecordSchema = z.strictObject({
  ...origin,
  work: z.enum(['w1', 'w2', 'w3']),
  parameters: z.int().positive(),
  /** The best of all rounds. */
  tokensPerSecond: positive,
  /** Model FLOPs over the best matmul of the same place and run; null where none was measured. */
  mfu: positive.nullable(),
  peakGflops: positive.nullable(),
  /** Null where there is no GPU to count on. */
  dispatchesPerStep: z.int().min(0).nullable(),
  submitsPerStep: z.int().min(0).nullable(),
  /** The most bytes of GPU buffers that stood at once: created, less destroyed. */
  gpuBytes: z.int().min(0).nullable(),
  steps: z.int().positive(),
  /** The loss in nats on the 51st batch, after 50 updates; null where the time limit came first. */
  lossAfter50: z.number().nullable(),
  /** Over how many of the first ten steps losses were compared, and the largest relative difference. */
  comparedSteps: z.int().positive(),
  lossDifference: z.number().min(0),
})

export const kernelRecordSchema = z.discriminatedUnion('op', [matmulRecordSchema, attentionRecordSchema])

export type MatmulRecord = z.infer<typeof matmulRecordSchema>
export type AttentionRecord = z.infer<typeof attentionRecordSchema>
export type KernelRecord = z.infer<typeof kernelRecordSchema>
export type TrainRecord = z.infer<typeof trainRecordSchema>

export const recordsSchema = z.union([z.array(kernelRecordSchema), z.array(trainRecordSchema)])
