/** Owns the launch form's fields: one for every leaf of the run configuration, with its words and its unit. */

export type FieldGroup = 'Shape' | 'Work' | 'Model' | 'Batch' | 'Merging' | 'Optimizer' | 'Checkpoints and devices'

interface FieldWords {
  /** Where the value sits in RunConfig, such as `model.dModel`. */
  readonly path: string
  readonly label: string
  readonly hint?: string
  readonly unit?: string
  readonly group: FieldGroup
  /** Whether it counts beside the other values; always, where this is left out. */
  readonly when?: (values: Readonly<Record<string, string | boolean>>) => boolean
}

const learned: FieldWords['when'] = ({ codec }) => String(codec).startsWith('bottleneck')
const local: NonNullable<FieldWords['when']> = ({ sync }) => sync === 'local'
const muon: NonNullable<FieldWords['when']> = (values) => values['optimizer.kind'] === 'muon'

export type RunField =
  | (FieldWords & { readonly kind: 'integer' | 'number' | 'boolean' })
  | (FieldWords & { readonly kind: 'choice'; readonly choices: readonly (readonly [value: string, label: string])[] })

/** Fields that everyone sets. */
export const mainFields: readonly RunField[] = [
  { path: 'stages', label: 'Stages', hint: 'Slices of the layers', kind: 'integer', group: 'Shape' },
  { path: 'replicas', label: 'Replicas', hint: 'Devices per stage', kind: 'integer', group: 'Shape' },
  { path: 'steps', label: 'Steps', hint: 'Merges of all replicas', kind: 'integer', group: 'Work' },
  {
    path: 'codec',
    label: 'Boundary codec',
    hint: 'Bytes a value between stages; learned: packed by the model',
    kind: 'choice',
    choices: [
      ['f32', 'f32 · 4 bytes'],
      ['f16', 'f16 · 2 bytes'],
      ['int8', 'int8 · 1 byte'],
      ['int4', 'int4 · ½ byte'],
      ['bottleneck-f16', 'learned · f16'],
      ['bottleneck-f32', 'learned · f32'],
    ],
    group: 'Work',
  },
  {
    path: 'codecWidth',
    label: 'Code width',
    unit: 'values a token',
    hint: 'Of the bottleneck',
    kind: 'integer',
    group: 'Work',
    when: learned,
  },
  { path: 'seed', label: 'Seed', hint: 'Weights, data order', kind: 'integer', group: 'Work' },
]

/** The rest, under Advanced. */
export const advancedFields: readonly RunField[] = [
  { path: 'model.layers', label: 'Layers', kind: 'integer', group: 'Model' },
  { path: 'model.dModel', label: 'Width', hint: 'Values a token (dModel)', kind: 'integer', group: 'Model' },
  { path: 'model.heads', label: 'Heads', hint: 'Must divide the width', kind: 'integer', group: 'Model' },
  { path: 'model.kvHeads', label: 'KV heads', hint: 'Must divide the heads', kind: 'integer', group: 'Model' },
  { path: 'model.ffn', label: 'Hidden width', hint: 'Of the SwiGLU block', kind: 'integer', group: 'Model' },
  {
    path: 'model.blockSize',
    label: 'Block size',
    unit: 'tokens',
    hint: 'Length of a sequence',
    kind: 'integer',
    group: 'Model',
  },
  { path: 'model.vocabSize', label: 'Vocabulary', hint: 'Empty: as the dataset has', kind: 'integer', group: 'Model' },
  { path: 'model.ropeTheta', label: 'RoPE theta', kind: 'number', group: 'Model' },
  { path: 'model.normEps', label: 'Norm epsilon', kind: 'number', group: 'Model' },
  {
    path: 'products',
    label: 'Matrix products',
    hint: 'f16, summed in f32: faster where a GPU has it, and no longer exact',
    kind: 'choice',
    choices: [
      ['f32', 'f32'],
      ['f16', 'f16'],
    ],
    group: 'Model',
  },
  {
    path: 'model.tieEmbeddings',
    label: 'Tie embeddings',
    hint: 'One matrix for embedding and head; needs one stage',
    kind: 'boolean',
    group: 'Model',
  },
  { path: 'batch', label: 'Batch', unit: 'sequences', hint: 'In one update', kind: 'integer', group: 'Batch' },
  {
    path: 'microbatch',
    label: 'Microbatch',
    unit: 'sequences',
    hint: 'Must divide the batch',
    kind: 'integer',
    group: 'Batch',
  },
  {
    path: 'sync',
    label: 'Synchronisation',
    hint: 'Replicas merge at every step (exact) or after inner steps (local)',
    kind: 'choice',
    choices: [
      ['exact', 'exact'],
      ['local', 'local'],
    ],
    group: 'Merging',
  },
  {
    path: 'local.innerSteps',
    label: 'Inner steps',
    hint: 'Updates of a lane between two merges',
    kind: 'integer',
    group: 'Merging',
    when: local,
  },
  {
    path: 'local.lanes',
    label: 'Lanes',
    hint: 'Copies that learn apart; empty: as many as replicas',
    kind: 'integer',
    group: 'Merging',
    when: local,
  },
  {
    path: 'local.mergeCodec',
    label: 'Merge codec',
    hint: 'Bytes a parameter in a merge',
    kind: 'choice',
    choices: [
      ['f32', 'f32 · 4 bytes'],
      ['int8', 'int8 · 1 byte'],
      ['int4', 'int4 · ½ byte'],
    ],
    group: 'Merging',
    when: local,
  },
  {
    path: 'local.moments',
    label: 'Lanes begin from',
    hint: 'Moments: their mean takes a merge two to three times the bytes, and learns faster',
    kind: 'choice',
    choices: [
      ['mean', 'their mean'],
      ['zero', 'zero'],
    ],
    group: 'Merging',
    when: local,
  },
  {
    path: 'local.overlap',
    label: 'Overlap',
    hint: 'Last updates during which parts of a stage stop and are sent; 0: all is sent after the last',
    unit: 'updates',
    kind: 'integer',
    group: 'Merging',
    when: local,
  },
  {
    path: 'local.outer.lr',
    label: 'Outer rate',
    hint: 'Learning rate of the merge',
    kind: 'number',
    group: 'Merging',
    when: local,
  },
  {
    path: 'local.outer.momentum',
    label: 'Outer momentum',
    hint: 'Of the merge (Nesterov)',
    kind: 'number',
    group: 'Merging',
    when: local,
  },
  {
    path: 'optimizer.kind',
    label: 'Optimizer',
    hint: 'Muon takes the layers’ matrices, AdamW the rest',
    kind: 'choice',
    choices: [
      ['adamw', 'AdamW'],
      ['muon', 'Muon'],
    ],
    group: 'Optimizer',
  },
  {
    path: 'optimizer.moments',
    label: 'Moments',
    hint: 'Of the gradient; bf16 takes half the memory',
    kind: 'choice',
    choices: [
      ['f32', 'f32 · 4 bytes'],
      ['bf16', 'bf16 · 2 bytes'],
    ],
    group: 'Optimizer',
  },
  { path: 'optimizer.lr', label: 'Learning rate', hint: 'At its peak', kind: 'number', group: 'Optimizer' },
  {
    path: 'optimizer.minLr',
    label: 'Last learning rate',
    hint: 'End of the cosine; with local steps best a hundredth of the peak',
    kind: 'number',
    group: 'Optimizer',
  },
  { path: 'optimizer.warmupSteps', label: 'Warm-up', unit: 'steps', kind: 'integer', group: 'Optimizer' },
  { path: 'optimizer.weightDecay', label: 'Weight decay', hint: 'Matrices only', kind: 'number', group: 'Optimizer' },
  { path: 'optimizer.gradClip', label: 'Gradient clip', hint: '0 turns it off', kind: 'number', group: 'Optimizer' },
  { path: 'optimizer.beta1', label: 'Beta 1', kind: 'number', group: 'Optimizer' },
  { path: 'optimizer.beta2', label: 'Beta 2', kind: 'number', group: 'Optimizer' },
  { path: 'optimizer.eps', label: 'Epsilon', kind: 'number', group: 'Optimizer' },
  { path: 'optimizer.momentum', label: 'Momentum', hint: 'Of Muon', kind: 'number', group: 'Optimizer', when: muon },
  {
    path: 'checkpointEvery',
    label: 'Checkpoint every',
    unit: 'steps',
    kind: 'integer',
    group: 'Checkpoints and devices',
  },
  {
    path: 'evalTokens',
    label: 'Evaluation',
    unit: 'tokens',
    hint: 'Held out, scored at the end',
    kind: 'integer',
    group: 'Checkpoints and devices',
  },
  {
    path: 'requireHardware',
    label: 'Hardware only',
    hint: 'Refuse devices that compute in software',
    kind: 'boolean',
    group: 'Checkpoints and devices',
  },
]

export const advancedGroups: readonly FieldGroup[] = [
  'Model',
  'Batch',
  'Merging',
  'Optimizer',
  'Checkpoints and devices',
]

export const runFields: readonly RunField[] = [...mainFields, ...advancedFields]

/** A model size to start from: the values it sets. */
export interface ModelPreset {
  readonly name: string
  readonly values: Readonly<Record<string, number>>
}

export const modelPresets: readonly ModelPreset[] = [
  preset('Tiny', 4, 128, 4, 4, 384, 64),
  preset('Small', 6, 384, 6, 6, 1024, 256),
  preset('Medium', 12, 512, 8, 4, 1408, 256),
  preset('Large', 14, 1024, 16, 4, 2816, 512),
]

function preset(
  name: string,
  layers: number,
  dModel: number,
  heads: number,
  kvHeads: number,
  ffn: number,
  blockSize: number,
): ModelPreset {
  const shape = { layers, dModel, heads, kvHeads, ffn, blockSize }
  return { name, values: Object.fromEntries(Object.entries(shape).map(([key, value]) => [`model.${key}`, value])) }
}
