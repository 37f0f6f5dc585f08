/** Proves that lanes that take steps of their own are the same lanes whoever's pages they are in, and however these are cut into stages. */
import { expect, test, tinyConfig, type Skein } from './skein.ts'

type Kind = 'adamw' | 'muon'

async function losses(skein: Skein, kind: Kind, stages: number, replicas: number, overlap = 0): Promise<number[]> {
  const name = `${kind} lanes on ${stages} × ${replicas}, overlap ${overlap}`
  const shape = { stages, replicas, steps: 4, batch: 4, microbatch: 1, codec: 'f32', seed: 11 } as const
  // Clipping goes by the norm of a stage, and so by the cut.
  const optimizer = { kind, warmupSteps: 2, gradClip: 0 }
  // Rounding goes by the cut as well; in eight bits it is little.
  const local = { innerSteps: 4, lanes: 2, mergeCodec: 'int8', overlap } as const
  const runId = await skein.launch(name, { ...tinyConfig, ...shape, optimizer, sync: 'local', local })
  const { detail, metrics, holders } = await skein.follow(runId)
  expect(detail.state).toBe('finished')
  expect(holders.size, `devices that held a stage of ${name}`).toBe(stages * replicas)
  return metrics.map((metric) => metric.loss)
}

test('one page with both lanes and four pages with one each, in two stages, train the same model', async ({
  skein,
}) => {
  await skein.volunteer()
  const kinds = ['adamw', 'muon'] as const
  const alone = { adamw: await losses(skein, 'adamw', 1, 1), muon: await losses(skein, 'muon', 1, 1) }
  for (let i = 0; i < 3; i++) await skein.volunteer()
  for (const kind of kinds) {
    expect(alone[kind]).toHaveLength(4)
    expect(alone[kind].at(-1)!).toBeLessThan(alone[kind][0]! - 0.3)
    const spread = await losses(skein, kind, 2, 2)
    spread.forEach((loss, step) => {
      const told = `${kind}, step ${step + 1}: ${loss} and ${alone[kind][step]}`
      expect(Math.abs(loss / alone[kind][step]! - 1), told).toBeLessThan(1e-3)
    })
  }
})

test('two pages with both lanes and four with one each train the same model while shards that are final merge', async ({
  skein,
}) => {
  for (let i = 0; i < 2; i++) await skein.volunteer()
  // By the cut of a stage goes what is final first.
  const alone = await losses(skein, 'muon', 2, 1, 3)
  for (let i = 0; i < 2; i++) await skein.volunteer()
  const spread = await losses(skein, 'muon', 2, 2, 3)
  expect(alone).toHaveLength(4)
  expect(alone.at(-1)!).toBeLessThan(alone[0]! - 0.2)
  spread.forEach((loss, step) => expect(Math.abs(loss / alone[step]! - 1), `step ${step + 1}`).toBeLessThan(1e-3))
})
