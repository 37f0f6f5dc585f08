/** Proves that two pages which hold the same stage train it with Muon, each updating whole matrices of it. */
import { expect, test, tinyConfig } from './skein.ts'

test('two replicas of a stage train with Muon and bf16 moments, and stay one', async ({ skein }) => {
  await skein.volunteer()
  await skein.volunteer()
  const shape = { ...tinyConfig, stages: 1, replicas: 2, steps: 24, checkpointEvery: 8, evalTokens: 2_000 }
  const optimizer = { kind: 'muon', moments: 'bf16', warmupSteps: 4 } as const
  const { detail, metrics, holders } = await skein.follow(await skein.launch('muon', { ...shape, optimizer }))
  // Every checkpoint says that the replicas' parameters are one: the server compares their hashes.
  expect(detail.state).toBe('finished')
  expect(holders.size).toBe(2)
  expect(metrics.at(-1)!.loss).toBeLessThan(metrics[0]!.loss - 0.5)
})
