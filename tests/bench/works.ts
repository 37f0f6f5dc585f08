/** Owns what is measured: the kernels' shapes and the training works, with their data, the same for every contender. */
import { encode } from '../../src/formats/byteTokenizer.ts'
import { generateCorpus } from '../../src/formats/corpus.ts'
import { trainWindowStart } from '../../src/formats/windows.ts'
import { learningRate } from '../../src/model/learningRate.ts'
import { runConfigSchema, type RunConfig } from '../../src/protocol/runConfig.ts'

/**
 * C [m,n] = A·B over k, f32. `nn` A [m,k], B [k,n]; `nt` A [m,k], B [n,k] (a layer's output); `tn` A [k,m], B [k,n] (a
 * weight's gradient).
 */
export interface MatmulCase {
  readonly op: 'matmul'
  readonly form: 'nn' | 'nt' | 'tn'
  readonly m: number
  readonly n: number
  readonly k: number
}

/** Causal attention over q, k, v f32 [batch, seq, heads, headDim]; `forwardBackward` gives dq, dk and dv as well. */
export interface AttentionCase {
  readonly op: 'attention'
  readonly pass: 'forward' | 'forwardBackward'
  readonly batch: number
  readonly heads: number
  readonly seq: number
  readonly headDim: number
}

export type KernelCase = MatmulCase | AttentionCase

const matmul = (m: number, n: number, k: number, form: MatmulCase['form'] = 'nn'): MatmulCase => {
  return { op: 'matmul', form, m, n, k }
}

const attention = (batch: number, heads: number, seq: number, headDim: number): AttentionCase[] =>
  (['forward', 'forwardBackward'] as const).map((pass) => ({ op: 'attention', pass, batch, heads, seq, headDim }))

/** The shapes that `bench -- kernels` measures; a GPU gets larger ones, a quick run two small ones. */
export function kernelCases(software: boolean, quick: boolean): KernelCase[] {
  if (quick) return [matmul(256, 256, 256), ...attention(2, 4, 64, 32)]
  const squares = software ? [256, 512, 1024] : [256, 512, 1024, 2048, 4096]
  return [
    ...squares.map((n) => matmul(n, n, n)),
    // One layer's products on the way forward, back and for the weight: w1's feed-forward, then w2's.
    matmul(768, 384, 128, 'nt'),
    matmul(768, 128, 384),
    matmul(384, 128, 768, 'tn'),
    matmul(1024, 1024, 384, 'nt'),
    matmul(1024, 384, 1024),
    matmul(1024, 384, 1024, 'tn'),
    ...attention(12, 4, 64, 32),
    ...attention(4, 6, 256, 64),
    ...(software ? [] : attention(4, 16, 1024, 64)),
  ]
}

export type WorkName = 'w1' | 'w2' | 'w3'

/** One training setting: a whole model on one device, the batch in one microbatch. */
export interface Work {
  readonly name: WorkName
  readonly config: RunConfig
  /** Software adapters leave it out. */
  readonly hardwareOnly: boolean
}

/** Updates after which the loss is recorded; the learning rate's schedule ends there. */
export const SCORED_STEPS = 50
/** Steps whose losses must agree. */
export const COMPARED_STEPS = 10

function work(
  name: WorkName,
  shape: { layers: number; dModel: number; heads: number; ffn: number; blockSize: number },
  batch: number,
  hardwareOnly = false,
): Work {
  const model = { vocabSize: 256, kvHeads: shape.heads, ...shape }
  const run = { stages: 1, replicas: 1, batch, microbatch: batch, steps: SCORED_STEPS, codec: 'f32' as const, seed: 1 }
  return { name, hardwareOnly, config: runConfigSchema.parse({ model, ...run }) }
}

export const WORKS: Readonly<Record<WorkName, Work>> = {
  w1: work('w1', { layers: 4, dModel: 128, heads: 4, ffn: 384, blockSize: 64 }, 12),
  w2: work('w2', { layers: 6, dModel: 384, heads: 6, ffn: 1024, blockSize: 256 }, 4),
  w3: work('w3', { layers: 12, dModel: 1024, heads: 16, ffn: 3072, blockSize: 1024 }, 4, true),
}

export function isWorkName(name: string): name is WorkName {
  return Object.hasOwn(WORKS, name)
}

/** What one step of a work is given. */
export interface StepInput {
  /** From 1. */
  readonly step: number
  readonly lr: number
  /** [batch·block] token ids, and for each the one that follows it. */
  readonly tokens: Uint32Array
  readonly targets: Uint32Array
}

const CORPUS_BYTES = 400_000
let corpus: Uint8Array | undefined

/** The same windows of the same seeded stories as a run of this configuration would train on. */
export function stepInput({ seed, batch, model, optimizer, steps }: RunConfig, step: number): StepInput {
  corpus ??= encode(generateCorpus(seed, CORPUS_BYTES))
  const text = corpus
  const { blockSize } = model
  const tokens = new Uint32Array(batch * blockSize)
  const targets = new Uint32Array(batch * blockSize)
  for (let sequence = 0; sequence < batch; sequence++) {
    const start = trainWindowStart(seed, step, sequence, text.length, blockSize)
    tokens.set(text.subarray(start, start + blockSize), sequence * blockSize)
    targets.set(text.subarray(start + 1, start + 1 + blockSize), sequence * blockSize)
  }
  return { step, lr: learningRate(optimizer, step, steps), tokens, targets }
}
