/** Proves on a GPU that an honest claim agrees with its recomputation by other kernels, a false one does not, and a juror's own share comes back. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { compareEvidence } from '../../server/audits/evidence.ts'
import type { Evidence } from '../../server/audits/types.ts'
import { evidenceFloats, sketchBoundary, sketchShard } from '../../src/audit/evidence.ts'
import type { SketchSeed } from '../../src/audit/sketch.ts'
import type { DeviceClass } from '../../src/audit/tolerances.ts'
import { gradientLift } from '../../src/codec/lift.ts'
import { MATMUL_VARIANTS } from '../../src/gpu/kernels/matmul.ts'
import { createGpuStageModel } from '../../src/model/gpuStageModel.ts'
import { initialParameters } from '../../src/model/init.ts'
import { runLayouts } from '../../src/model/layout.ts'
import type { Assignment } from '../../src/protocol/control.ts'
import { runConfigSchema, type CodecName, type RunConfig } from '../../src/protocol/runConfig.ts'
import { floatsOf, frameShape } from '../../src/stage/frames.ts'
import { performOnGpu, type GpuAction } from '../../src/stage/gpuWork.ts'
import { digestOf } from '../../src/stage/receiptWork.ts'
import { Tenure } from '../../src/stage/tenure.ts'
import { TokenSource } from '../../src/stage/tokenSource.ts'
import { noise, testGpu } from './gpu.ts'

type Bytes = Uint8Array<ArrayBufferLike>

const gpu = await testGpu()
afterAll(() => gpu.check())

const SEED: SketchSeed = [0x1234567, 0x89abcde]
const SHARD = 1
const MICROBATCHES = [3, 5]
const host = { phase: () => undefined, stats: { tokens: 0 } }

/** The middle stage of three. */
function configOf(codec: CodecName): RunConfig {
  const model = { vocabSize: 67, dModel: 32, layers: 3, heads: 4, kvHeads: 2, ffn: 48, blockSize: 12 }
  return runConfigSchema.parse({ model, stages: 3, replicas: 2, batch: 6, microbatch: 2, codec, seed: 5 })
}

async function nodeOf(config: RunConfig, matmul: string): Promise<Tenure> {
  const layout = runLayouts(config)[1]!
  const assignment: Assignment = {
    ...{ runId: 'run', runName: 'Run', generation: 1, stage: 1, config, source: 'peers', finish: null },
    dataset: { id: 'data', tokens: 1000, trainTokens: 900 },
    checkpoint: { step: 0, stage: { stage: 1, chunks: [] } },
  }
  const abort = new AbortController()
  const tokens = new TokenSource('http://nowhere.test', assignment, abort.signal)
  const tenure = new Tenure(assignment, frameShape(config, 1), tokens, abort)
  const model = await createGpuStageModel(gpu, { config, stage: 1 }, { kernels: { matmul: [matmul] } })
  model.write('parameters', 0, initialParameters(layout, config.seed).map((x, i) => (i < layout.decayLength ? 6 * x : x))) // prettier-ignore
  tenure.furnish(model)
  return tenure
}

const act = (node: Tenure, action: GpuAction) => performOnGpu(node, 1, action, host)

/** What the neighbours made of one microbatch, encoded. */
function inputsOf(config: RunConfig, microbatch: number): [Bytes, Bytes] {
  const rows = config.microbatch * config.model.blockSize
  const { dModel } = config.model
  return [
    encoded(config, noise(rows * dModel, microbatch)),
    encoded(config, noise(rows * dModel, 100 + microbatch, 1e-2)),
  ]
}

function encoded({ codec, model, microbatch }: RunConfig, values: Float32Array<ArrayBuffer>): Bytes {
  if (codec === 'f32') return new Uint8Array(values.buffer)
  if (codec !== 'int8') throw new RangeError(codec)
  const [rows, columns] = [microbatch * model.blockSize, model.dModel]
  const stride = 4 * Math.ceil(columns / 4)
  const view = new DataView(new ArrayBuffer(4 * rows + rows * stride))
  for (let row = 0; row < rows; row++) {
    const of = values.subarray(row * columns, (row + 1) * columns)
    const unit = Math.fround(Math.max(...of.map(Math.abs)) / 127)
    view.setFloat32(4 * row, unit, true)
    of.forEach((x, c) => view.setInt8(4 * rows + row * stride + c, Math.round(x / unit)))
  }
  return new Uint8Array(view.buffer)
}

interface Made {
  activation: Bytes
  gradient: Bytes
}

/** There and back, as a node's own work. */
async function compute(node: Tenure, config: RunConfig, microbatches: readonly number[]): Promise<Map<number, Made>> {
  const made = new Map<number, Made>()
  await act(node, { type: 'beginStep', step: 1 })
  for (const microbatch of microbatches) {
    const [input, outputGradient] = inputsOf(config, microbatch)
    const run = async (op: 'forward' | 'backward', from: Bytes) => {
      const event = await act(node, { type: 'compute', op, microbatch, step: 1, input: from })
      return (event as Extract<typeof event, { type: 'computed' }>).output!
    }
    made.set(microbatch, { activation: await run('forward', input), gradient: await run('backward', outputGradient) })
  }
  return made
}

async function readShare(node: Tenure, shard: number): Promise<Bytes> {
  const event = await act(node, { type: 'readGradient', step: 1, version: 1, shard })
  return (event as Extract<typeof event, { type: 'gradientRead' }>).tensor
}

/** As the server sketches what a claimant showed. */
function exhibited(config: RunConfig, node: Tenure, { activation, gradient }: Made, share: Bytes): Evidence {
  const shape = { rows: config.microbatch * config.model.blockSize, columns: config.model.dModel }
  return {
    activation: sketchBoundary(config.codec, activation, shape, 1, SEED),
    inputGradient: sketchBoundary(config.codec, gradient, shape, gradientLift(config), SEED),
    parameterGradient: sketchShard(floatsOf(share), node.shape.shards[SHARD]!, node.model!.layout.tensors, SEED),
  }
}

async function testimony(node: Tenure, config: RunConfig): Promise<Evidence> {
  const [told] = MICROBATCHES
  let shown: { activation: Bytes; inputGradient: Bytes; input: Bytes } | null = null
  await act(node, { type: 'beginStep', step: 1 })
  for (const microbatch of MICROBATCHES) {
    const [input, outputGradient] = inputsOf(config, microbatch)
    const run = async (op: 'forward' | 'backward', from: Bytes) => {
      const digest = digestOf(from)
      const about = { audit: 'a', op, microbatch, step: 1, input: from, digest, claimed: await digest } as const
      const event = await act(node, { type: 'recompute', ...about })
      const { output, genuine } = event as Extract<typeof event, { type: 'recomputed' }>
      expect(genuine).toBe(true)
      return output!
    }
    const activation = await run('forward', input)
    const inputGradient = await run('backward', outputGradient)
    if (microbatch === told) shown = { activation, inputGradient, input }
  }
  const about = { audit: 'a', step: 1, shard: SHARD, seed: SEED, losses: [0, 0] }
  const event = await act(node, { type: 'testify', ...about, ...shown! })
  const { evidence } = (event as Extract<typeof event, { type: 'testified' }>).message
  const sketches = Object.entries(evidence).flatMap(([kind, text]) => (text ? [[kind, evidenceFloats(text)]] : []))
  return Object.fromEntries(sketches) as Evidence
}

/** Two kernels that the adapter runs, each on a node of its own. */
const [first, second] = MATMUL_VARIANTS.filter((spec) => spec.suits(gpu) && !spec.name.startsWith('tiled')).map(
  ({ name }) => name,
)
const { vendor, architecture } = gpu.adapter
const device: DeviceClass = { vendor, architecture, products: 'f32' }

describe.each(['f32', 'int8'] as const)('a claim of a real stage, under %s', (codec) => {
  const config = configOf(codec)
  let [claimant, juror]: Tenure[] = []
  let claimed: { made: Map<number, Made>; share: Bytes }

  beforeAll(async () => {
    claimant = await nodeOf(config, first!)
    juror = await nodeOf(config, second ?? first!)
    const made = await compute(claimant, config, MICROBATCHES)
    claimed = { made, share: await readShare(claimant, SHARD) }
  })
  afterAll(() => {
    claimant?.model!.destroy()
    juror?.model!.destroy()
  })

  it('agrees with its recomputation in all that is looked at, and a false one does not', async () => {
    const own = await testimony(juror!, config)
    const [told] = MICROBATCHES
    const { made, share } = claimed
    const compare = (of: Made, shown: Bytes) => compareEvidence(exhibited(config, juror!, of, shown), own, [device, device], codec) // prettier-ignore
    const honest = compare(made.get(told!)!, share)
    expect(honest.against).toBeNull()
    expect(Object.keys(honest.distances).sort()).toEqual(['activation', 'inputGradient', 'parameterGradient'])
    // Another microbatch's tensors, and a sum that lacks one.
    const other = made.get(MICROBATCHES[1]!)!
    expect(compare(other, share).against).toMatchObject({ kind: 'activation' })
    expect(compare({ ...made.get(told!)!, gradient: other.gradient }, share).against).toMatchObject({ kind: 'inputGradient' }) // prettier-ignore
    await compute(claimant!, config, [told!])
    expect(compare(made.get(told!)!, await readShare(claimant!, SHARD)).against).toMatchObject({ kind: 'parameterGradient' }) // prettier-ignore
  })

  it('leaves the juror’s own share as it was, once it is put back, and what is added to it as well', async () => {
    await compute(juror!, config, [0])
    const shards = juror!.shape.shards.map((_, shard) => shard)
    const before = await Promise.all(shards.map((shard) => readShare(juror!, shard)))
    await testimony(juror!, config)
    for (const shard of shards) await act(juror!, { type: 'restoreGradient', shard, tensor: before[shard]! })
    for (const shard of shards) expect(await readShare(juror!, shard)).toEqual(before[shard])
  })

  it('is not recomputed from other inputs than it names', async () => {
    const [input] = inputsOf(config, 3)
    const about = { audit: 'a', op: 'forward', microbatch: 3, step: 1, input, digest: digestOf(input) } as const
    const event = await act(juror!, { type: 'recompute', ...about, claimed: 'f'.repeat(32) })
    expect(event).toMatchObject({ type: 'recomputed', genuine: false, output: null })
  })
})
