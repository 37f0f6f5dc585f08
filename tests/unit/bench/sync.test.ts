/** Proves what local steps spare a merge, for the model that `npm run bench -- sync` trains: over a hundred times fewer bytes. */
import { expect, it } from 'vitest'
import { groupedBytes } from '../../../src/codec/groups.ts'
import { stepTokens } from '../../../src/protocol/lanes.ts'
import { frameShape } from '../../../src/stage/frames.ts'
import { shareBytes } from '../../../src/stage/laneShares.ts'
import { rowConfig, type RowName, type Setting } from '../../bench/sync/rows.ts'
import { mergeTraffic } from '../../bench/sync/traffic.ts'

const setting: Setting = {
  ...{ dModel: 128, layers: 4, blockSize: 64 },
  ...{ replicas: 4, batch: 12, innerSteps: 30, moments: 'mean', outerLr: 0.9, outerMomentum: 0.7, overlap: 0 },
  ...{ optimizer: 'muon', lr: 3e-3, minLr: 3e-4, updates: 600, seed: 1, data: 'stories' },
}

/** Sent by one replica to merge, for each token that is trained on. */
function bytesPerToken(row: RowName, change: Pick<Setting, 'moments' | 'optimizer'>): number {
  const config = rowConfig(row, { ...setting, ...change }, 65, 1000)
  const { mergeCodec: codec } = config.local
  const { shards, merged } = frameShape(config, 0)
  const tensors = shards.map(({ length }, shard) =>
    row === 'exact'
      ? { share: 4 * length, result: 4 * length, state: 8 * length }
      : { share: shareBytes(codec, 1, merged[shard]!), result: groupedBytes(codec, merged[shard]!), state: 0 },
  )
  return mergeTraffic(config.replicas, tensors) / config.replicas / stepTokens(config)
}

it.each([
  ['local f32', 'muon', 'zero', 30],
  ['local int8', 'muon', 'zero', 140],
  ['local int4', 'muon', 'zero', 255],
  ['local int8', 'muon', 'mean', 69],
  ['local int4', 'muon', 'mean', 127],
  ['local int8', 'adamw', 'mean', 47],
  ['local int4', 'adamw', 'mean', 86],
] as const)('%s of %s and moments from their %s send at least %i times less than the exact merge', (...given) => {
  const [row, optimizer, moments, times] = given
  const bytes = (of: RowName) => bytesPerToken(of, { optimizer, moments })
  expect(bytes('exact') / bytes(row)).toBeGreaterThan(times)
})

it('trains as many tokens whatever the row', () => {
  const tokens = (['exact', 'local int8'] as const).map((row) => {
    const config = rowConfig(row, setting, 65, 1000)
    return config.steps * stepTokens(config)
  })
  expect(tokens[0]).toBe(tokens[1])
})
