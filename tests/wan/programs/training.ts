/**
 * Owns agents, each in a home of its own, that train one run after another over one kind of line or another: what the lines leave
 * of their tokens a second. The argument is the list of runs, as JSON; all are of as many nodes.
 */
import '../../../server/cli/pageImports.mjs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createApiClient } from '../../../server/cli/apiClient.ts'
import { dawnEnvironment } from '../../../server/cli/browser.mjs'
import { startServer } from '../../../server/main.ts'
import { generateCorpus } from '../../../src/formats/corpus.ts'
import type { StepMetric } from '../../../src/protocol/api.ts'
import { runConfigSchema, type RunConfigInput } from '../../../src/protocol/runConfig.ts'
import { MEASURED_LINKS } from '../../bench/network/links.ts'
import { openBox } from '../box/box.ts'

export interface RunOver {
  link: string
  config: RunConfigInput
}

export interface TrainingOver {
  /** Of each step after the first two, in milliseconds. */
  stepMs: number[]
  tokensPerStep: number
  /** Of every step, in nats a token. */
  losses: number[]
  /** Megabits a second that the busiest home sent on the mean. */
  sentMbit: number
  /** How late the router was at most, in milliseconds: the machine was busy. */
  lateMs: number
}

/** Kernels are chosen and links opened in these. */
const WARM_UP_STEPS = 2
const READY_MS = 120_000
/** The homes see the server from afar. */
const ADMIN_TOKEN = 'of-this-box-alone'

const runs = JSON.parse(process.argv[2]!) as RunOver[]
const { stages, replicas } = runConfigSchema.parse(runs[0]!.config)
const hosts = Array.from({ length: stages * replicas }, (_, home) => `home-${home + 1}`)
const box = await openBox(hosts.map((name) => ({ name, nat: 'open' })))
const folder = await mkdtemp(path.join(tmpdir(), 'skein-training-'))
const server = await startServer({
  ...{
    host: box.address,
    port: 0,
    adminToken: ADMIN_TOKEN,
    dataFolder: path.join(folder, 'server'),
    logLevel: 'error',
    audits: null,
  },
  ratePerMinute: 1_000_000,
})
const api = createApiClient(server.url, undefined, ADMIN_TOKEN)
const dataset = await api.uploadDataset('stories', generateCorpus(7, 400_000))
const root = path.resolve(import.meta.dirname, '..', '..', '..')
for (const name of hosts) {
  const state = path.join(folder, name)
  const args = ['--server', server.url, '--allow-software', '--json', '--state', state]
  const agent = box.host(name).spawn(process.execPath, [path.join(root, 'server', 'cli', 'agent.mjs'), ...args], {
    env: { ...process.env, ...dawnEnvironment() },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  agent.on('exit', (code, signal) => {
    console.error(`The agent of ${name} ended with ${code ?? signal}.`)
    process.exit(1)
  })
}
const standby = async () =>
  ((await (await fetch(`${server.url}/api/v1/fleet`)).json()) as { standby: number }).standby === hosts.length
for (const until = Date.now() + READY_MS; !(await standby());) {
  if (Date.now() > until) throw new Error(`Not all agents were there after ${READY_MS / 1000} s.`)
  await new Promise((resolve) => setTimeout(resolve, 300))
}

async function train({ link: name, config }: RunOver): Promise<StepMetric[]> {
  const { id } = await api.launch({ name, datasetId: dataset.id, config })
  const metrics: StepMetric[] = []
  for await (const event of api.live(id)) {
    if (event.type === 'metric') metrics.push(event.metric)
    if (event.type !== 'snapshot' && event.type !== 'detail') continue
    const { state, detail, rollbacks } = event.detail
    if (rollbacks > 0 || state === 'failed') throw new Error(`Over ${name} the run went wrong: ${detail}`)
    if (state === 'finished') return metrics
  }
  throw new Error('The live stream ended before the run did.')
}

const results: TrainingOver[] = []
for (const run of runs) {
  const { from } = MEASURED_LINKS.find(({ name }) => name === run.link)!
  for (const name of hosts) await box.host(name).shape(from)
  const before = await box.counters()
  const startedAt = performance.now()
  console.error(`training over ${run.link} …`)
  const metrics = await train(run)
  const seconds = (performance.now() - startedAt) / 1000
  const { lines, late } = await box.counters()
  const sent = hosts.map((name) => {
    const { device } = box.host(name)
    return lines[device]!.up.bytes - before.lines[device]!.up.bytes
  })
  results.push({
    stepMs: metrics.slice(WARM_UP_STEPS).map(({ durationMs }) => durationMs),
    tokensPerStep: metrics[0]!.tokens,
    losses: metrics.map(({ loss }) => loss),
    sentMbit: (8 * Math.max(...sent)) / 1e6 / seconds,
    lateMs: late.mostMs,
  })
}
console.log(JSON.stringify(results))
await rm(folder, { recursive: true, force: true })
process.exit(0)
