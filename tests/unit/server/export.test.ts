/** Owns the proof that initial weights, their reading back and the export are one and the same numbers. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { writeInitialCheckpoint } from '../../../server/checkpoints/initial.ts'
import { CHUNK_ELEMENTS } from '../../../src/protocol/control.ts'
import { readBack } from '../../../server/checkpoints/readBack.ts'
import { RECEIVED_SCALE, RECEIVED_TAPS } from '../../../src/codec/boundary.ts'
import { tokenTableRow } from '../../../src/codec/tokenTable.ts'
import { floatBytes, readSafetensors } from '../../../src/formats/safetensors.ts'
import { initialParameters } from '../../../src/model/init.ts'
import { runLayouts, stageLayouts } from '../../../src/model/layout.ts'
import { TOKEN_TABLE } from '../../../src/model/learnedBoundaries.ts'
import type { Chunk, StageCheckpoint } from '../../../src/protocol/control.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'
import { openFixture } from './appFixture.ts'
import type { Fixture } from './appFixture.ts'
import { dataset, run } from './store.compliance.ts'

const config = runConfigSchema.parse({
  model: { dModel: 24, layers: 3, heads: 4, kvHeads: 2, ffn: 40, vocabSize: 300, blockSize: 16, normEps: 1e-6 },
  stages: 2,
  seed: 11,
})
const layouts = runLayouts(config)

let fixture: Fixture
beforeEach(async () => {
  fixture = await openFixture()
  await fixture.store.insertDataset(dataset())
})
afterEach(() => fixture.close())

async function launch(change: Partial<typeof config> = {}, stages?: StageCheckpoint[]) {
  const own = { ...config, ...change }
  const initial = stages ?? (await writeInitialCheckpoint(fixture.blobs, own))
  const first = { runId: 'r1', step: 0, stages: initial, bytes: 1, createdAt: 1 }
  await fixture.store.insertRun(run('r1', { config: own }), first)
}

const fetchModel = async (query = '') => {
  const response = await fixture.app.inject(`/api/v1/runs/r1/export/model.safetensors${query}`)
  expect(response.statusCode).toBe(200)
  return { response, ...readSafetensors(response.rawPayload) }
}

describe('the initial checkpoint', () => {
  it('reads back whole, and is what the seed says', async () => {
    const stages = await writeInitialCheckpoint(fixture.blobs, config)
    const elements = layouts.reduce((sum, layout) => sum + layout.length, 0)
    expect(await readBack(fixture.blobs, stages, layouts)).toBe(4 * elements)
    const [chunk] = stages[1]!.chunks
    const expected = floatBytes(initialParameters(layouts[1]!, 11))
    expect(Buffer.compare(await fixture.blobs.get(chunk!.hash), expected)).toBe(0)
  })

  it('is cut into chunks of 4 MiB', async () => {
    const large = { ...config, stages: 1, model: { ...config.model, vocabSize: 65_536 } }
    const [stage] = await writeInitialCheckpoint(fixture.blobs, large)
    const [layout] = stageLayouts(large.model, 1)
    expect(stage!.chunks.map((c) => c.offset)).toEqual(stage!.chunks.map((_, i) => i * CHUNK_ELEMENTS))
    expect(stage!.chunks.length).toBe(Math.ceil(layout!.length / CHUNK_ELEMENTS))
    expect(await readBack(fixture.blobs, [stage!], [layout!])).toBe(4 * layout!.length)
  })
})

describe('reading back', () => {
  const edited = async (edit: (chunks: Chunk[]) => unknown) => {
    const stages = structuredClone(await writeInitialCheckpoint(fixture.blobs, config))
    edit(stages[0]!.chunks)
    return readBack(fixture.blobs, stages, layouts)
  }

  it.each<[string, string, (chunks: Chunk[]) => unknown]>([
    ['checkpoint.incomplete', 'a gap', (chunks) => (chunks[0]!.offset += 64)],
    ['checkpoint.incomplete', 'an overlap', (chunks) => chunks.push({ ...chunks[0]! })],
    ['checkpoint.incomplete', 'nothing', (chunks) => chunks.splice(0)],
    ['checkpoint.incomplete', 'a short tail', (chunks) => (chunks.at(-1)!.length -= 1)],
    [
      'checkpoint.incomplete',
      'half a moment',
      (chunks) => chunks.push({ ...chunks[0]!, kind: 'firstMoment', length: 64 }),
    ],
    ['blob.missing', 'an absent blob', (chunks) => (chunks[0]!.hash = 'e'.repeat(64))],
  ])('refuses with %s: %s', async (code, _what, edit) => {
    await expect(edited(edit)).rejects.toMatchObject({ code })
  })

  it('refuses a missing stage, one too many, and a chunk of another size', async () => {
    const stages = await writeInitialCheckpoint(fixture.blobs, config)
    await expect(readBack(fixture.blobs, stages.slice(1), layouts)).rejects.toMatchObject({
      code: 'checkpoint.incomplete',
    })
    await expect(readBack(fixture.blobs, [...stages, { stage: 9, chunks: [] }], layouts)).rejects.toMatchObject({
      code: 'checkpoint.incomplete',
    })
    const hash = await fixture.blobs.put(new Uint8Array(8))
    const wrong = stages.map((s) => ({ ...s, chunks: s.chunks.map((c) => ({ ...c, hash })) }))
    await expect(readBack(fixture.blobs, wrong, layouts)).rejects.toMatchObject({ code: 'checkpoint.incomplete' })
  })

  it.each([NaN, Infinity, -Infinity])('refuses %s among the weights', async (value) => {
    const [layout] = layouts
    const values = initialParameters(layout!, 1)
    values[100] = 3e38
    const sound = await fixture.blobs.put(floatBytes(values))
    const chunk = { kind: 'parameters', offset: 0, length: values.length, hash: sound } as const
    expect(await readBack(fixture.blobs, [{ stage: 0, chunks: [chunk] }], [layout!])).toBe(4 * values.length)
    values[100] = value
    const broken = await fixture.blobs.put(floatBytes(values))
    const stages = [{ stage: 0, chunks: [{ ...chunk, hash: broken }] }]
    await expect(readBack(fixture.blobs, stages, [layout!])).rejects.toMatchObject({ code: 'checkpoint.not_finite' })
  })
})

describe('the export', () => {
  it('lists its files with the bytes they really have', async () => {
    await launch()
    const listed = await fixture.app.inject('/api/v1/runs/r1/export')
    expect(listed.headers['x-skein-step']).toBe('0')
    expect(listed.json().map((file: { name: string }) => file.name)).toEqual([
      'config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
      'generation_config.json',
    ])
    for (const { name, bytes } of listed.json()) {
      const response = await fixture.app.inject(`/api/v1/runs/r1/export/${name}`)
      expect(response.rawPayload.byteLength).toBe(bytes)
      expect(response.headers['content-length']).toBe(String(bytes))
    }
  })

  it('holds every tensor under its Hugging Face name, whichever chunks and stages it lay in', async () => {
    // Chunks of 1000 elements cut tensors anywhere, and come in no order.
    const stages: StageCheckpoint[] = []
    for (const layout of layouts) {
      const flat = initialParameters(layout, 11)
      const chunks: Chunk[] = []
      for (let offset = 0; offset < flat.length; offset += 1000) {
        const slice = flat.subarray(offset, offset + 1000)
        const hash = await fixture.blobs.put(floatBytes(slice))
        chunks.unshift({ kind: 'parameters', offset, length: slice.length, hash })
        chunks.unshift({ kind: 'firstMoment', offset, length: slice.length, hash })
      }
      stages.push({ stage: layout.stage, chunks })
    }
    await launch({}, stages)
    const { tensors, metadata } = await fetchModel()
    expect(metadata).toEqual({ format: 'pt' })
    expect([...tensors.keys()]).toHaveLength(3 * 9 + 3)
    for (const layout of layouts) {
      const flat = initialParameters(layout, 11)
      for (const { name, shape, offset, length } of layout.tensors) {
        expect(tensors.get(name)!.shape).toEqual(shape)
        expect(tensors.get(name)!.data).toEqual(flat.slice(offset, offset + length))
      }
    }
    expect(tensors.get('model.layers.2.self_attn.k_proj.weight')!.shape).toEqual([12, 24])
    expect(tensors.get('lm_head.weight')!.shape).toEqual([300, 24])
  })

  it('carries the tokenizer of its dataset', async () => {
    await launch()
    const vocabOf = async (id: string) => {
      const tokenizer = (await fixture.app.inject(`/api/v1/runs/${id}/export/tokenizer.json`)).json()
      return Object.keys(tokenizer.model.vocab)
    }
    expect(await vocabOf('r1')).toHaveLength(256)
    const characters = { tokenizer: 'character', vocabulary: ' äb', vocabSize: 3 } as const
    await fixture.store.insertDataset({ ...dataset('d2'), ...characters })
    const first = { ...(await fixture.store.latestCheckpoint('r1'))!, runId: 'r2' }
    await fixture.store.insertRun(run('r2', { config, datasetId: 'd2' }), first)
    expect(await vocabOf('r2')).toEqual([' ', 'ä', 'b'])
  })

  it('is the same whatever the partition, and changes with the checkpoint', async () => {
    await launch()
    const two = await fetchModel()
    const single = await writeInitialCheckpoint(fixture.blobs, { ...config, stages: 1 })
    await fixture.store.insertRun(run('r2', { config: { ...config, stages: 1 } }), {
      runId: 'r2',
      step: 0,
      stages: single,
      bytes: 1,
      createdAt: 1,
    })
    const one = readSafetensors((await fixture.app.inject('/api/v1/runs/r2/export/model.safetensors')).rawPayload)
    for (const [name, tensor] of two.tensors) expect(one.tensors.get(name)).toEqual(tensor)
    const other = await writeInitialCheckpoint(fixture.blobs, { ...config, seed: 12 })
    await fixture.store.insertCheckpoint({ runId: 'r1', step: 5, stages: other, bytes: 1, createdAt: 2 })
    const latest = await fetchModel()
    expect(latest.response.headers['x-skein-step']).toBe('5')
    const name = 'model.embed_tokens.weight'
    expect(latest.tensors.get(name)).not.toEqual(two.tensors.get(name))
    expect((await fetchModel('?step=0')).tensors.get(name)).toEqual(two.tensors.get(name))
  })

  it('describes the model as LlamaConfig does; a tied head is left out', async () => {
    await launch({ stages: 1, model: { ...config.model, tieEmbeddings: true } })
    const described = (await fixture.app.inject('/api/v1/runs/r1/export/config.json')).json()
    expect(described).toMatchObject({
      architectures: ['LlamaForCausalLM'],
      model_type: 'llama',
      hidden_size: 24,
      intermediate_size: 40,
      num_hidden_layers: 3,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      head_dim: 6,
      hidden_act: 'silu',
      rms_norm_eps: 1e-6,
      rope_theta: 10_000,
      max_position_embeddings: 16,
      vocab_size: 300,
      tie_word_embeddings: true,
      torch_dtype: 'float32',
      bos_token_id: null,
      eos_token_id: null,
    })
    const { tensors } = await fetchModel()
    expect(tensors.has('lm_head.weight')).toBe(false)
    expect(tensors.has('model.embed_tokens.weight')).toBe(true)
  })

  it('brings the code of an architecture of its own along where boundaries are learned', async () => {
    const learned = { ...config, codec: 'bottleneck-f16', codecWidth: 4 } as const
    await launch(learned)
    const names = (await fixture.app.inject('/api/v1/runs/r1/export')).json().map(({ name }: { name: string }) => name)
    expect(names).toEqual(expect.arrayContaining(['configuration_skein.py', 'modeling_skein.py']))
    const described = (await fixture.app.inject('/api/v1/runs/r1/export/config.json')).json()
    expect(described).toMatchObject({
      architectures: ['SkeinForCausalLM'],
      model_type: 'skein',
      auto_map: {
        AutoConfig: 'configuration_skein.SkeinConfig',
        AutoModelForCausalLM: 'modeling_skein.SkeinForCausalLM',
      },
      hidden_size: 24,
      boundary_after_layers: [1],
      code_width: 4,
      code_hidden: 6,
      code_dtype: 'float16',
      received_scale: RECEIVED_SCALE,
      received_taps: RECEIVED_TAPS,
    })
    const code = await fixture.app.inject('/api/v1/runs/r1/export/modeling_skein.py')
    expect(code.payload).toContain('class SkeinForCausalLM')
    expect(Number(code.headers['content-length'])).toBe(code.rawPayload.length)
    const { tensors } = await fetchModel()
    const table = tensors.get(TOKEN_TABLE)!
    expect(table.shape).toEqual([300, 24])
    expect(table.data.subarray(7 * 24, 8 * 24)).toEqual(tokenTableRow(11, 7, 24))
    for (const layout of runLayouts(learned)) {
      const flat = initialParameters(layout, 11)
      for (const { name, shape, offset, length } of layout.tensors)
        expect(tensors.get(name)).toEqual({ name, shape, data: flat.slice(offset, offset + length) })
    }
  })

  it('is a plain Llama under the codecs without weights', async () => {
    await launch({ codec: 'int4' })
    const names = (await fixture.app.inject('/api/v1/runs/r1/export')).json().map(({ name }: { name: string }) => name)
    expect(names).not.toContain('modeling_skein.py')
    const described = (await fixture.app.inject('/api/v1/runs/r1/export/config.json')).json()
    expect(described).toMatchObject({ architectures: ['LlamaForCausalLM'] })
  })

  it('says what is unknown', async () => {
    await launch()
    const codeOf = async (path: string) => (await fixture.app.inject(`/api/v1/runs/${path}`)).json().code
    expect(await codeOf('nope/export')).toBe('run.unknown')
    expect(await codeOf('r1/export?step=3')).toBe('run.no_step')
    expect(await codeOf('r1/export/pytorch_model.bin')).toBe('export.unknown_file')
    expect(await codeOf('r1/export/..%2F..%2Fsecret')).toBe('export.unknown_file')
  })
})
