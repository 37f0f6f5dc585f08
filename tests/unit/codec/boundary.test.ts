/** Proves what crosses a boundary under each codec: its bytes, its frame, and the ids that go with a learned code. */
import { describe, expect, it } from 'vitest'
import { boundaryBytes, boundaryRows } from '../../../src/codec/boundary.ts'
import { runLayouts } from '../../../src/model/layout.ts'
import { decodeFrame, encodeFrame } from '../../../src/protocol/frame.ts'
import { codecNameSchema, runConfigSchema } from '../../../src/protocol/runConfig.ts'
import type { CodecName, RunConfig } from '../../../src/protocol/runConfig.ts'
import { mostMicrobatches } from '../../../src/protocol/lanes.ts'
import { readFrame, tensorFrame } from '../../../src/stage/frames.ts'
import { computeMicrobatch } from '../../../src/stage/microbatchWork.ts'
import type { StageInput, StageModel } from '../../../src/stage/model.ts'
import type { TokenSource } from '../../../src/stage/tokenSource.ts'

const configOf = (codec: CodecName): RunConfig =>
  runConfigSchema.parse({
    model: { dModel: 128, blockSize: 32 },
    stages: 3,
    microbatch: 2,
    batch: 4,
    codec,
    codecWidth: 2,
  })

describe('bytes a token at d 128', () => {
  it.each([
    ['f32', 512],
    ['f16', 256],
    ['int8', 132],
    ['int4', 72],
    ['bottleneck-f32', 8],
    ['bottleneck-f16', 4],
  ] as const)('%s: %i', (codec, bytes) => {
    const config = configOf(codec)
    expect(boundaryBytes(config, 64)).toBe(64 * bytes)
    expect(boundaryRows(config, 64 * bytes)).toBe(64)
    expect(boundaryRows(config, 64 * bytes - 1)).toBeNull()
  })

  it('are told for every codec there is, and old configurations mean what they meant', () => {
    expect(codecNameSchema.options).toHaveLength(6)
    expect(runConfigSchema.parse({})).toMatchObject({ codec: 'f16', codecWidth: 8 })
  })
})

describe('a frame', () => {
  const address = { kind: 'activation', generation: 1, step: 2, index: 0, boundary: 0, attempt: 0 } as const

  it.each(codecNameSchema.options)('of %s comes back, and no other codec’s does', (codec) => {
    const config = configOf(codec)
    const tensor = new Uint8Array(boundaryBytes(config, 64)).fill(7)
    const shape = { config, shards: [], merged: [] }
    const bytes = tensorFrame(address, tensor, shape)
    expect(readFrame(bytes, 1, shape)).toEqual({ type: 'frame', address, tensor })
    const { payload, ...header } = decodeFrame(bytes)
    expect(header).toMatchObject({ codec, rows: 64, columns: codec.startsWith('bottleneck') ? 2 : 128 })
    for (const change of [{ columns: 127 }, { rows: 32 }, { codec: codec === 'f16' ? 'f32' : 'f16' } as const]) {
      const refused = () => readFrame(encodeFrame({ ...header, ...change }, payload), 1, shape)
      expect(refused).toThrow(expect.objectContaining({ code: 'frame.shape' }))
    }
  })

  it('of a microbatch that no step has is refused', () => {
    const config = configOf('f16')
    const shape = { config, shards: [], merged: [] }
    const tensor = new Uint8Array(boundaryBytes(config, 64))
    const read = (index: number) => readFrame(tensorFrame({ ...address, index }, tensor, shape), 1, shape)
    const most = mostMicrobatches(config)
    expect(read(most - 1)).toMatchObject({ address: { index: most - 1 } })
    expect(() => read(most)).toThrow(expect.objectContaining({ code: 'frame.shape' }))
  })
})

describe('a stage between two boundaries', () => {
  const windows = { inputs: Uint32Array.of(1, 2, 3), targets: Uint32Array.of(2, 3, 4) }

  async function given(codec: CodecName): Promise<{ input: StageInput; asked: string[] }> {
    const asked: string[] = []
    let input: StageInput | undefined
    const model = {
      layout: runLayouts(configOf(codec))[1]!,
      forward: (_: number, taken: StageInput) => {
        input = taken
        return Promise.resolve(new Uint8Array(1))
      },
    } as unknown as StageModel
    const source = {
      train: (step: number, microbatch: number) => {
        asked.push(`${step} ${microbatch}`)
        return Promise.resolve(windows)
      },
    } as unknown as TokenSource
    const request = { op: 'forward', microbatch: 5, step: 9, input: Uint8Array.of(8) } as const
    await computeMicrobatch(model, source, request, () => true)
    return { input: input!, asked }
  }

  it('fetches the ids of its tokens where a learned boundary needs them, and nothing elsewhere', async () => {
    expect(await given('bottleneck-f16')).toEqual({
      input: { boundary: Uint8Array.of(8), tokenIds: windows.inputs },
      asked: ['9 5'],
    })
    expect(await given('int4')).toEqual({ input: { boundary: Uint8Array.of(8) }, asked: [] })
  })
})
