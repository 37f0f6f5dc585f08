/** Owns which optimizer updates which tensor, and what follows: the memory of moments, the cut of a stage into shards. */
import { SHARD_ALIGNMENT, shardsOf } from '../protocol/routing.ts'
import type { Shard } from '../protocol/routing.ts'
import type { OptimizerConfig } from '../protocol/runConfig.ts'
import type { StageLayout, TensorSpec } from './layout.ts'

/** Muon takes the matrices of the layers; embedding, head and norms stay with AdamW (Jordan et al. 2024). */
export function takesMuon({ kind }: Pick<OptimizerConfig, 'kind'>, { name, shape }: TensorSpec): boolean {
  return kind === 'muon' && shape.length === 2 && name.startsWith('model.layers.')
}

/** What AdamW walks: the tensors that Muon leaves, each with the padding behind it, neighbours in one run. */
export function adamwRuns(layout: StageLayout, config: Pick<OptimizerConfig, 'kind'>): Shard[] {
  const runs: { offset: number; length: number }[] = []
  layout.tensors.forEach((tensor, i) => {
    if (takesMuon(config, tensor)) return
    const { offset } = tensor
    const length = (layout.tensors[i + 1]?.offset ?? layout.length) - offset
    const last = runs.at(-1)
    if (last && last.offset + last.length === offset) last.length += length
    else runs.push({ offset, length })
  })
  return runs
}

/** Bytes of both moments; Muon keeps only the first. */
export function momentBytes(layout: StageLayout, config: Pick<OptimizerConfig, 'kind' | 'moments'>): number {
  const second = adamwRuns(layout, config).reduce((sum, { length }) => sum + length, 0)
  return (layout.length + second) * (config.moments === 'bf16' ? 2 : 4)
}

/**
 * The shard of each replica: of equal length, or with Muon as even as whole matrices allow. A pure function, so that all
 * replicas cut alike.
 */
export function stageShards(
  layout: Pick<StageLayout, 'length' | 'tensors'>,
  replicas: number,
  optimizer: Pick<OptimizerConfig, 'kind'>,
): Shard[] {
  if (optimizer.kind !== 'muon') return shardsOf(layout.length, replicas)
  const cuts = layout.tensors.flatMap((tensor) => {
    if (takesMuon(optimizer, tensor)) return [tensor.offset]
    // AdamW's tensors may be cut anywhere; so many places are enough.
    const grain = Math.ceil(tensor.length / MOST_CUTS / SHARD_ALIGNMENT) * SHARD_ALIGNMENT
    return Array.from({ length: Math.ceil(tensor.length / grain) }, (_, i) => tensor.offset + i * grain)
  })
  // A tensor joined to the one before it may start between two places where a shard may.
  return shardsOf(
    layout.length,
    replicas,
    cuts.filter((cut) => cut % SHARD_ALIGNMENT === 0),
  )
}

/** In one tensor of AdamW's. */
const MOST_CUTS = 64
