/** Owns a run's weights as others load them: the Hugging Face folder of a `LlamaForCausalLM`, built from a checkpoint. */
import { safetensorsHeader } from '../../src/formats/safetensors.ts'
import { byteTokenizer, characterTokenizer } from '../../src/formats/tokenizer.ts'
import { codeWidthOf } from '../../src/codec/boundary.ts'
import { stageLayouts } from '../../src/model/layout.ts'
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

function safetensorsFile(blobs: BlobStore, config: RunConfig, stages: readonly StageCheckpoint[]): ExportFile {
  // A run that was cut anew keeps older checkpoints as they were cut.
  const layouts = stageLayouts(config.model, stages.length, checkpointPartition(config, stages), codeWidthOf(config))
  const header = safetensorsHeader(layouts.flatMap((layout) => layout.tensors))
  const elements = layouts.flatMap((layout) => layout.tensors).reduce((sum, tensor) => sum + tensor.length, 0)
  return {
    name: 'model.safetensors',
    bytes: header.byteLength + 4 * elements,
    contentType: 'application/octet-stream',
    async *content() {
      yield header
      const reader = new ChunkReader(blobs)
      for (const layout of layouts) {
        const chunks = stages.find((entry) => entry.stage === layout.stage)?.chunks ?? []
        const parameters = chunks.filter((chunk) => chunk.kind === 'parameters')
        for (const tensor of layout.tensors) yield* reader.bytes(parameters, tensor.offset, tensor.length)
      }
    },
  }
}

function jsonFile(name: string, text: string): ExportFile {
  const bytes = new TextEncoder().encode(text)
  return {
    name,
    bytes: bytes.byteLength,
    contentType: 'application/json; charset=utf-8',
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
  return {
    step: checkpoint.step,
    files: [
      jsonFile('config.json', json(llamaConfig(run.config.model))),
      safetensorsFile(blobs, run.config, checkpoint.stages),
      jsonFile('tokenizer.json', tokenizer['tokenizer.json']),
      jsonFile('tokenizer_config.json', tokenizer['tokenizer_config.json']),
      jsonFile('generation_config.json', json(generation)),
    ],
  }
}
