/** Owns which optimizer updates which tensor, and the cut of a stage's vectors into shards that follows from it. */
import { SHARD_ALIGNMENT, shardsOf } from '../protocol/routing.ts'
import type { Shard } from '../protocol/routing.ts'
import type { OptimizerConfig } from '../protocol/runConfig.ts'
import type { StageLayout, TensorSpec } from './layout.ts'

/** Muon takes the matrices of the layers; embedding, head and norms stay with AdamW (Jordan et al. 2024). */
export function takesMuon({ kind }: Pick<OptimizerConfig, 'kind'>, { name, shape }: TensorSpec): boolean {
  return kind === 'muon' && shape.length === 2 && name.startsWith('model.layers.')
}

/** The shard of each replica: of equal length, or with Muon of whole tensors. Server and nodes must cut alike. */
export function stageShards(
  layout: Pick<StageLayout, 'length' | 'tensors'>,
  replicas: number,
  { kind }: Pick<OptimizerConfig, 'kind'>,
): Shard[] {
  if (kind !== 'muon') return shardsOf(layout.length, replicas)
  const starts = layout.tensors.map(({ offset }) => offset)
  return shardsOf(
    layout.length,
    replicas,
    starts.filter((offset) => offset % SHARD_ALIGNMENT === 0),
  )
}
