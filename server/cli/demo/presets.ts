/** Owns the named settings of `npm run demo`: models that others have trained and reported on, so that results can be laid side by side. */
import type { TokenizerKind } from '../../../src/protocol/api.ts'
import type { RunConfigInput } from '../../../src/protocol/runConfig.ts'

export interface Preset {
  readonly tokenizer: TokenizerKind
  readonly config: RunConfigInput
}

/**
 * The small setting of nanoGPT's README ("I only have a MacBook"; Karpathy 2022), for a text given by `--data`.
 *
 * Its blocks have 12 d² parameters, 4 d² of attention and 8 d² of a GELU of width 4 d. A SwiGLU has three matrices, so
 * 8 d² would be a width of 341; 384, the multiple of 128 next to it, makes 9 d² and blocks of 13 d². Positions are rotary
 * instead of learned, norms RMS instead of layer norms, and embedding and head are two matrices, which may lie on two
 * stages. Weight decay touches matrices only. All of a text of a million characters' last tenth is scored.
 */
const nanogptCpu: Preset = {
  tokenizer: 'character',
  config: {
    model: { layers: 4, heads: 4, kvHeads: 4, dModel: 128, ffn: 384, blockSize: 64 },
    optimizer: {
      lr: 1e-3,
      minLr: 1e-4,
      warmupSteps: 100,
      beta1: 0.9,
      beta2: 0.99,
      weightDecay: 0.1,
      gradClip: 1,
    },
    batch: 12,
    microbatch: 6,
    steps: 2000,
    checkpointEvery: 250,
    evalTokens: 1_000_000,
  },
}

export const presets: Readonly<Record<string, Preset>> = { 'nanogpt-cpu': nanogptCpu }
