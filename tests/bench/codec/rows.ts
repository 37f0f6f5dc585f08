/** Owns what `npm run bench -- codec` trains: the settings, and for each the codecs that are compared. */
import { boundaryBytes } from '../../../src/codec/boundary.ts'
import { runPartition } from '../../../src/model/layout.ts'
import { runConfigSchema, type OptimizerConfig, type RunConfig } from '../../../src/protocol/runConfig.ts'

export type SettingName = 'default' | 'full'

/** `default` is made to fit two cores, `full` a GPU. One microbatch a step: a codec sees the same tokens either way. */
const SETTINGS = {
  default: { dModel: 128, layers: 4, heads: 4, ffn: 384, blockSize: 64, batch: 12 },
  full: { dModel: 256, layers: 8, heads: 8, ffn: 768, blockSize: 128, batch: 8 },
} as const
const STAGES = 4
const STEPS = 600

/** A codec, or the control: the model cut to what its last stage could do alone, from the tokens. */
export interface CodecRow {
  readonly name: string
  readonly codec: RunConfig['codec']
  /** Numbers a token, of a bottleneck. */
  readonly width?: number
  readonly control?: true
}

/** What all gaps are measured from. */
export const UNCOMPRESSED: CodecRow = { name: 'f32', codec: 'f32' }

/**
 * Uncompressed first; a bottleneck is named by how many times fewer bytes than bf16 it sends. That of ×1 shows what a boundary's
 * weights are good for when nothing is left out.
 */
export function codecRows(setting: SettingName): CodecRow[] {
  const { dModel } = SETTINGS[setting]
  const bottleneck = (ratio: number): CodecRow => {
    return { name: `bottleneck ×${ratio}`, codec: 'bottleneck-f16', width: dModel / ratio }
  }
  const ratios = setting === 'full' ? [64, 16, 128] : [64, 16]
  return [
    UNCOMPRESSED,
    ...ratios.map(bottleneck),
    { name: 'control', codec: 'f32', control: true },
    bottleneck(1),
    { name: 'int4', codec: 'int4' },
    { name: 'int8', codec: 'int8' },
  ]
}

export interface Trial {
  readonly setting: SettingName
  readonly row: CodecRow
  readonly optimizer: OptimizerConfig['kind']
  readonly seed: number
  /** Fewer than the setting's 600 show only that everything runs. */
  readonly steps?: number
}

export function trialConfig({ setting, row, optimizer, seed, steps = STEPS }: Trial, vocabSize: number): RunConfig {
  const { batch, heads, ...shape } = SETTINGS[setting]
  const config = runConfigSchema.parse({
    model: { ...shape, heads, kvHeads: heads, vocabSize },
    optimizer: { kind: optimizer },
    ...{ stages: STAGES, replicas: 1, batch, microbatch: batch, steps, seed, codec: row.codec },
    ...(row.width && { codecWidth: row.width }),
  })
  if (!row.control) return config
  return { ...config, stages: 1, model: { ...config.model, layers: runPartition(config).at(-1)! } }
}

/** Bytes that stand for one token at one boundary, one way; null where there is none. */
export function bytesPerToken(config: RunConfig): number | null {
  const rows = config.microbatch * config.model.blockSize
  return config.stages === 1 ? null : boundaryBytes(config, rows) / rows
}
