/** Proves the headless agent: it trains beside browsers as one of them, leaves in order, and says what is amiss. */
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { startServer } from '../../server/main.ts'
import type { RunConfigInput } from '../../src/protocol/runConfig.ts'
import { endAgents, losingAgent, npmRunAgent, startAgent, type AgentProcess } from './agentProcess.ts'
import { expect, test, tinyConfig, type Skein } from './skein.ts'

test.afterEach(endAgents)

const fleet = async (skein: Skein) =>
  (await (await fetch(`${skein.origin}/api/v1/fleet`)).json()) as { nodes: number; standby: number }
const standingBy = (skein: Skein, nodes: number) =>
  expect.poll(async () => (await fleet(skein)).standby, { timeout: 30_000 }).toBe(nodes)

const says = (agent: AgentProcess, text: string | RegExp) =>
  expect.poll(agent.output, { timeout: 30_000 }).toMatch(text)

/** Losses of a run of one seed, and the kinds of the devices that held its stages. */
async function train(skein: Skein, stages: number, replicas: number, config: RunConfigInput = {}) {
  const name = `${stages} × ${replicas}`
  const runId = await skein.launch(name, { ...tinyConfig, ...config, stages, replicas, codec: 'f32', seed: 11 })
  let kinds: string[] = []
  const { metrics, detail } = await skein.follow(runId, (run) => {
    const seated = run.detail.grid.flat()
    const holders = run.detail.nodes.filter(({ nodeId }) => seated.includes(nodeId))
    if (holders.length > 0) kinds = holders.map(({ kind }) => kind).sort()
    return false
  })
  return { losses: metrics.map((metric) => metric.loss), kinds, rollbacks: detail.rollbacks }
}

function expectAlike(losses: number[], expected: number[], what: string) {
  expect(losses, what).toHaveLength(expected.length)
  losses.forEach((loss, step) => {
    expect(Math.abs(loss / expected[step]! - 1), `${what}, step ${step + 1}`).toBeLessThan(1e-4)
  })
}

test('an agent and a browser train together, and compute what one machine computes', async ({ skein }) => {
  const agent = startAgent(['--server', skein.origin, '--allow-software'])
  await standingBy(skein, 1)
  const alone = await train(skein, 1, 1)
  expect(alone.kinds).toEqual(['agent'])
  expect(alone.losses.at(-1)!).toBeLessThan(alone.losses[0]! - 0.01)

  await skein.volunteer()
  for (const [stages, replicas] of [
    [2, 1],
    [1, 2],
  ] as const) {
    await standingBy(skein, 2)
    const together = await train(skein, stages, replicas)
    expect(together.kinds).toEqual(['agent', 'browser'])
    expect(together.rollbacks).toBe(0)
    expectAlike(together.losses, alone.losses, `${stages} × ${replicas}`)
  }
  expect(agent.output()).toMatch(/^\S+Z {2}training stage [12] of 2 of “2 × 1”$/m)
})

test('an agent whose GPU is lost takes a fresh one, reloads its stage and finishes the same run', async ({ skein }) => {
  test.skip(process.platform === 'win32', 'The test tells the agent by SIGUSR2.')
  const agent = startAgent(['--server', skein.origin, '--allow-software', '--json'], losingAgent)
  const config = { steps: 12, checkpointEvery: 3, evalTokens: 1000 }
  const alone = await train(skein, 1, 1, config)

  const runId = await skein.launch('broken', { ...tinyConfig, ...config, stages: 1, codec: 'f32', seed: 11 })
  await skein.follow(runId, ({ metrics }) => metrics.length >= 4)
  agent.child.kill('SIGUSR2')
  const { metrics, holders } = await skein.follow(runId)
  expect(metrics).toHaveLength(12)
  // One device, seated once with each GPU it had.
  expect(holders.size).toBe(2)
  expectAlike(
    metrics.map((metric) => metric.loss),
    alone.losses,
    'with a lost GPU',
  )
  const said = agent
    .stdout()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { phase?: string; code?: string })
  expect(said.filter(({ phase }) => phase === 'lostDevice')).toEqual([expect.objectContaining({ code: 'gpu.lost' })])
  expect(agent.child.exitCode).toBeNull()
})

test('SIGTERM to `npm run agent`: it says that it leaves, and the run says whom it waits for', async ({ skein }) => {
  const agents = [startAgent(['--server', skein.origin, '--allow-software'], npmRunAgent)]
  await standingBy(skein, 1)
  agents.push(startAgent(['--server', skein.origin, '--allow-software']))
  const runId = await skein.launch('left alone', { ...tinyConfig, steps: 5000, checkpointEvery: 5 })
  await skein.follow(runId, ({ metrics }) => metrics.length >= 3)
  agents[0]!.child.kill('SIGTERM')
  await expect.poll(async () => (await fleet(skein)).nodes, { timeout: 2000 }).toBe(1)
  const { code, output } = await agents[0]!.exit
  expect(code, output).toBe(0)
  expect(output).toMatch(/Z {2}stopped\n$/)
  await expect.poll(async () => (await skein.api.run(runId)).detail).toMatch(/Stage [12] of 2 waits for a volunteer/)
  await says(agents[1]!, /waiting: /)
})

test('a server that is down, and one that restarts, are dialled until they answer', async () => {
  const taken = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => taken.once('listening', resolve))
  const { port } = taken.address() as AddressInfo
  await new Promise((resolve) => taken.close(resolve))
  const dataFolder = await mkdtemp(path.join(os.tmpdir(), 'skein-agent-down-'))
  const serve = () => startServer({ host: '127.0.0.1', port, dataFolder, heartbeatMs: 500, logLevel: 'error' })

  const agent = startAgent(['--server', `http://127.0.0.1:${port}`, '--allow-software'])
  await says(agent, `http://127.0.0.1:${port} does not answer; dialling until it does`)
  let server = await serve()
  await says(agent, 'waiting: No run is under way')
  await server.close()
  await says(agent, /waiting: [^]*does not answer/)
  server = await serve()
  await says(agent, /waiting: [^]*does not answer[^]*waiting: /)
  agent.child.kill('SIGINT')
  expect((await agent.exit).code).toBe(0)
  await server.close()
  await rm(dataFolder, { recursive: true })
})

test('what only a person can mend ends the agent with a code, a sentence and a remedy', async ({ skein }) => {
  const stranger = createServer((_, response) => response.end('hello')).listen(0, '127.0.0.1')
  await new Promise((resolve) => stranger.once('listening', resolve))
  const elsewhere = `http://127.0.0.1:${(stranger.address() as AddressInfo).port}`
  const [bare, address, misled, software] = await Promise.all(
    [[], ['--server', 'ftp://skein.example'], ['--server', elsewhere], ['--server', skein.origin]].map(async (args) => {
      const agent = startAgent(args)
      // Without a GPU it ends by itself; with one it would work.
      const waits = says(agent, 'waiting: ').then(() => agent.child.kill('SIGTERM'))
      return Promise.race([agent.exit, waits.then(() => agent.exit)])
    }),
  )
  stranger.close()
  for (const { code, output } of [bare!, address!]) {
    expect(code).toBe(2)
    expect(output).toMatch(/^.+ \[agent\.server\]\n {2}.*--/)
  }
  expect(misled!.code).toBe(1)
  expect(misled!.output).toContain('[agent.not_skein]')
  test.skip(software!.output.includes('waiting: '), 'This machine has a GPU.')
  expect(software!.code).toBe(1)
  expect(software!.output).toContain('--allow-software')
  expect(software!.output).toContain('[gpu.software_adapter]')
})
