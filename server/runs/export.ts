/**
 * Owns a run's weights as others load them: a Hugging Face folder built from a checkpoint. A run whose boundaries have no weights
 * is a `LlamaForCausalLM`; one with learned boundaries is an architecture of its own, which brings its modeling file along.
 */
import { readFileSync } from 'node:fs'
import { floatBytes, safetensorsHeader } from '../../src/formats/safetensors.ts'
import { byteTokenizer, characterTokenizer } from '../../src/formats/tokenizer.ts'
import { codeWidthOf, RECEIVED_SCALE, RECEIVED_TAPS } from '../../src/codec/boundary.ts'
import { tokenTableRow } from '../../src/codec/tokenTable.ts'
import { codeHidden, stageLayouts } from '../../src/model/layout.ts'
import type { StageLayout } from '../../src/model/layout.ts'
import { learnedBoundaries, TOKEN_TABLE } from '../../src/model/learnedBoundaries.ts'
import type { LearnedBoundaries } from '../../src/model/learnedBoundaries.ts'
import type { StageCheckpoint } from '../../src/protocol/control.ts'
import { fail } from '../../src/protocol/errors.ts'
import type { ModelConfig, RunConfig } from '../../src/protocol/runConfig.ts'
import { ChunkReader } from '../checkpoints/chunkReader.ts'
import { checkpointPartition } from '../checkpoints/recut.ts'
import type { BlobStore, Store } from '../db/store.ts'

export interface ExportFile {
  readonly name: string
  /** Exactly what `content` yields. */
  readonly bytes: number
  readonly contentType: string
  /** Reads chunk by chunk; each is checked against its hash on the way. */
  content(): AsyncIterable<Uint8Array>
}

/** Fields as transformers' `LlamaConfig` names them. */
export function llamaConfig(model: ModelConfig): Record<string, unknown> {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: model.vocabSize,
    hidden_size: model.dModel,
    intermediate_size: model.ffn,
    num_hidden_layers: model.layers,
    num_attention_heads: model.heads,
    num_key_value_heads: model.kvHeads,
    head_dim: model.dModel / model.heads,
    hidden_act: 'silu',
    max_position_embeddings: model.blockSize,
    initializer_range: 0.02,
    rms_norm_eps: model.normEps,
    rope_theta: model.ropeTheta,
    rope_scaling: null,
    attention_bias: false,
    attention_dropout: 0,
    mlp_bias: false,
    tie_word_embeddings: model.tieEmbeddings,
    pretraining_tp: 1,
    use_cache: true,
    bos_token_id: null,
    eos_token_id: null,
    pad_token_id: null,
    torch_dtype: 'float32',
  }
}

/** Fields as `transformers/configuration_skein.py` names them; Transformers loads the model's code from the folder. */
function skeinConfig(model: ModelConfig, { partition, codeWidth, halves }: LearnedBoundaries): Record<string, unknown> {
  let layers = 0
  return {
    ...llamaConfig(model),
    architectures: ['SkeinForCausalLM'],
    model_type: 'skein',
    auto_map: {
      AutoConfig: 'configuration_skein.SkeinConfig',
      AutoModelForCausalLM: 'modeling_skein.SkeinForCausalLM',
    },
    use_cache: false,
    boundary_after_layers: partition.slice(0, -1).map((count) => (layers += count)),
    code_width: codeWidth,
    code_hidden: codeHidden(model),
    code_dtype: halves ? 'float16' : 'float32',
    received_scale: RECEIVED_SCALE,
    received_taps: RECEIVED_TAPS,
  }
}

function pythonFile(name: string): ExportFile {
  const text = readFileSync(new URL(`transformers/${name}`, import.meta.url), 'utf8')
  return textFile(name, text, 'text/x-python; charset=utf-8')
}

/** The table of a run's learned boundaries [vocab, d], row by row. */
function* tokenTable({ model: { vocabSize, dModel }, seed }: RunConfig): Generator<Uint8Array> {
  for (let token = 0; token < vocabSize; token++) yield floatBytes(tokenTableRow(seed, token, dModel))
}

function safetensorsFile(
  blobs: BlobStore,
  config: RunConfig,
  stages: readonly StageCheckpoint[],
  layouts: readonly StageLayout[],
  boundaries: LearnedBoundaries | null,
): ExportFile {
  const { vocabSize, dModel } = config.model
  // Whoever loads the model need not know how the table is drawn.
  const table = boundaries ? [{ name: TOKEN_TABLE, shape: [vocabSize, dModel], length: vocabSize * dModel }] : []
  const tensors = [...layouts.flatMap((layout) => layout.tensors), ...table]
  const header = safetensorsHeader(tensors)
  return {
    name: 'model.safetensors',
    bytes: header.byteLength + 4 * tensors.reduce((sum, { length }) => sum + length, 0),
    contentType: 'application/octet-stream',
    async *content() {
      yield header
      const reader = new ChunkReader(blobs)
      for (const layout of layouts) {
        const chunks = stages.find((entry) => entry.stage === layout.stage)?.chunks ?? []
        const parameters = chunks.filter((chunk) => chunk.kind === 'parameters')
        for (const tensor of layout.tensors) yield* reader.bytes(parameters, tensor.offset, tensor.length)
      }
      if (boundaries) yield* tokenTable(config)
    },
  }
}

const jsonFile = (name: string, text: string) => textFile(name, text, 'application/json; charset=utf-8')

function textFile(name: string, text: string, contentType: string): ExportFile {
  const bytes = new TextEncoder().encode(text)
  return {
    name,
    bytes: bytes.byteLength,
    contentType,
    async *content() {
      yield bytes
    },
  }
}

/**
 * The files of a run at `step`, or at its latest checkpoint.
 * @throws SkeinError `run.unknown`, `run.no_step`
 */
export async function exportFiles(
  { store, blobs }: { store: Store; blobs: BlobStore },
  runId: string,
  step?: number,
): Promise<{ step: number; files: ExportFile[] }> {
  const run = await store.run(runId)
  if (!run) return fail('run.unknown', `There is no run ${runId}.`, 'Look the run up with GET /api/v1/runs.')
  const checkpoint =
    step === undefined
      ? await store.latestCheckpoint(runId)
      : (await store.checkpoints(runId)).find((entry) => entry.step === step)
  if (!checkpoint)
    return fail('run.no_step', `Run ${runId} has no such checkpoint.`, `GET /api/v1/runs/${runId} lists those it has.`)
  const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`
  // The database refuses a run without its dataset.
  const vocabulary = (await store.dataset(run.datasetId))!.vocabulary
  const { files: tokenizerFiles } = vocabulary === null ? byteTokenizer : characterTokenizer(vocabulary)
  const tokenizer = tokenizerFiles(run.config.model.blockSize)
  const generation = { bos_token_id: null, eos_token_id: null, max_length: run.config.model.blockSize }
  const { config } = run
  // A run that was cut anew keeps older checkpoints as they were cut.
  const partition = checkpointPartition(config, checkpoint.stages)
  const layouts = stageLayouts(config.model, partition.length, partition, codeWidthOf(config))
  const boundaries = learnedBoundaries(config, partition)
  const { model } = config
  return {
    step: checkpoint.step,
    files: [
      jsonFile('config.json', json(boundaries ? skeinConfig(model, boundaries) : llamaConfig(model))),
      ...(boundaries ? ['configuration_skein.py', 'modeling_skein.py'].map(pythonFile) : []),
      safetensorsFile(blobs, config, checkpoint.stages, layouts, boundaries),
      jsonFile('tokenizer.json', tokenizer['tokenizer.json']),
      jsonFile('tokenizer_config.json', tokenizer['tokenizer_config.json']),
      jsonFile('generation_config.json', json(generation)),
    ],
  }
}
