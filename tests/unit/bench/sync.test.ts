/** Proves what local steps spare a merge, for the model that `npm run bench -- sync` trains: over a hundred times fewer bytes. */
import { expect, it } from 'vitest'
import { groupedBytes } from '../../../src/codec/groups.ts'
import { runLayouts } from '../../../src/model/layout.ts'
import { stageShards } from '../../../src/model/optimizerShards.ts'
import { mergedVectors, stepTokens } from '../../../src/protocol/lanes.ts'
import { shardCount } from '../../../src/protocol/routing.ts'
import { shareBytes } from '../../../src/stage/laneShares.ts'
import { rowConfig, type RowName, type Setting } from '../../bench/sync/rows.ts'
import { mergeTraffic } from '../../bench/sync/traffic.ts'

const setting: Setting = {
  ...{ dModel: 128, layers: 4, blockSize: 64 },
  ...{ replicas: 4, batch: 12, innerSteps: 30, moments: 'mean', outerLr: 0.7, outerMomentum: 0.9 },
  ...{ optimizer: 'muon', lr: 3e-3, minLr: 3e-4, updates: 600, seed: 1, data: 'stories' },
}

/** Sent by one replica to merge, for each token that is trained on. */
function bytesPerToken(row: RowName, moments: Setting['moments']): number {
  const config = rowConfig(row, { ...setting, moments }, 65, 1000)
  const [layout] = runLayouts(config)
  const { mergeCodec: codec } = config.local
  const merged = mergedVectors(config)
  const shards = stageShards(layout!, shardCount(config), config.optimizer).map(({ length }) =>
    row === 'exact'
      ? { share: 4 * length, result: 4 * length, state: 8 * length }
      : { share: shareBytes(codec, 1, merged * length), result: groupedBytes(codec, merged * length), state: 0 },
  )
  return mergeTraffic(config.replicas, shards) / config.replicas / stepTokens(config)
}

it.each([
  ['local f32', 'zero', 30],
  ['local int8', 'zero', 140],
  ['local int4', 'zero', 255],
  ['local int8', 'mean', 70],
  ['local int4', 'mean', 127],
] as const)('%s and moments from their %s send at least %i times less than the exact merge', (row, moments, times) => {
  expect(bytesPerToken('exact', moments) / bytesPerToken(row, moments)).toBeGreaterThan(times)
})

it('trains as many tokens whatever the row', () => {
  const tokens = (['exact', 'local int8'] as const).map((row) => {
    const config = rowConfig(row, setting, 65, 1000)
    return config.steps * stepTokens(config)
  })
  expect(tokens[0]).toBe(tokens[1])
})
