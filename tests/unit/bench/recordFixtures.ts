/** Owns sample records. */
import type { MatmulRecord, TrainRecord } from '../../bench/records.ts'

export const kernelRecord = (changes: Partial<MatmulRecord> = {}): MatmulRecord => ({
  where: 'dawn',
  adapter: 'SwiftShader',
  impl: 'skein 0.1.0',
  op: 'matmul',
  form: 'nn',
  m: 256,
  n: 256,
  k: 256,
  dtype: 'f32',
  gflops: 8,
  shareOfBest: 1,
  milliseconds: 4.2,
  error: 4e-7,
  ...changes,
})

export const trainRecord = (changes: Partial<TrainRecord> = {}): TrainRecord => ({
  where: 'chromium',
  adapter: 'SwiftShader',
  impl: 'skein 0.1.0',
  work: 'w1',
  parameters: 918_656,
  tokensPerSecond: 1200,
  mfu: 0.5,
  peakGflops: 12,
  dispatchesPerStep: 174,
  submitsPerStep: 7,
  gpuBytes: 3 * 2 ** 20,
  steps: 51,
  lossAfter50: 2.5,
  comparedSteps: 10,
  lossDifference: 1e-6,
  ...changes,
})
