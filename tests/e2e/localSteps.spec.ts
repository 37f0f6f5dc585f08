/** Proves that lanes that take steps of their own are the same lanes whoever's pages they are in, and however these are cut into stages. */
import { expect, test, tinyConfig, type Skein } from './skein.ts'

async function losses(skein: Skein, stages: number, replicas: number): Promise<number[]> {
  const name = `lanes on ${stages} × ${replicas}`
  const shape = { stages, replicas, steps: 4, batch: 4, microbatch: 1, codec: 'f32', seed: 11 } as const
  // Clipping goes by the norm of a stage, and so by the cut.
  const optimizer = { warmupSteps: 2, gradClip: 0 }
  const local = { innerSteps: 4, lanes: 2 }
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
  const alone = await losses(skein, 1, 1)
  expect(alone).toHaveLength(4)
  expect(alone.at(-1)!).toBeLessThan(alone[0]! - 0.3)
  for (let i = 0; i < 3; i++) await skein.volunteer()
  const spread = await losses(skein, 2, 2)
  spread.forEach((loss, step) => {
    expect(Math.abs(loss / alone[step]! - 1), `step ${step + 1}: ${loss} and ${alone[step]}`).toBeLessThan(1e-3)
  })
})
