/** Proves the promise in its first form: however a run is spread over devices, its steps are the same steps. */
import { expect, test, tinyConfig, type Skein } from './skein.ts'

async function losses(skein: Skein, stages: number, replicas: number): Promise<number[]> {
  const name = `${stages} × ${replicas}`
  const runId = await skein.launch(name, { ...tinyConfig, stages, replicas, codec: 'f32', seed: 11 })
  const { metrics, holders } = await skein.follow(runId)
  expect(holders.size, `devices that held a stage of ${name}`).toBe(stages * replicas)
  return metrics.map((metric) => metric.loss)
}

async function standingBy(skein: Skein, volunteers: number) {
  const fleet = async () => (await (await fetch(`${skein.origin}/api/v1/fleet`)).json()) as { standby: number }
  await expect.poll(async () => (await fleet()).standby, { timeout: 60_000 }).toBe(volunteers)
}

test('one device, four stages and two stages of two replicas compute the same losses', async ({ skein }) => {
  await skein.volunteer()
  await standingBy(skein, 1)
  const alone = await losses(skein, 1, 1)
  expect(alone).toHaveLength(6)
  // Six steps that learn something: equal losses of a model that stands still would prove nothing.
  expect(alone.at(-1)!).toBeLessThan(alone[0]! - 0.01)

  for (let i = 0; i < 3; i++) await skein.volunteer()
  await standingBy(skein, 4)
  const inStages = await losses(skein, 4, 1)
  await standingBy(skein, 4)
  const inReplicas = await losses(skein, 2, 2)
  for (const spread of [inStages, inReplicas]) {
    expect(spread).toHaveLength(alone.length)
    spread.forEach((loss, step) => {
      expect(Math.abs(loss / alone[step]! - 1), `step ${step + 1}: ${loss} and ${alone[step]}`).toBeLessThan(1e-4)
    })
  }
})
