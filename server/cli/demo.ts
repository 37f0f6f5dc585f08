/** Owns `npm run demo`: a server, volunteers in real browsers, a model trained, scored, sampled and exported. */
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { SkeinError } from '../../src/protocol/errors.ts'
import { startServer } from '../main.ts'
import { createApiClient } from './apiClient.ts'
import { trainUnderChaos } from './demo/chaos/chaosDemo.ts'
import { followRun } from './demo/follow.ts'
import { terminalProgress, uploadAndLaunch } from './demo/launch.ts'
import { DEMO_USAGE, demoOptions, type DemoOptions } from './demo/options.ts'
import { adaptersOf, leaveOutcome, requireFinished } from './demo/outcome.ts'
import { demoSummary, lossFell } from './demo/summary.ts'
import { demoText } from './demo/text.ts'
import { openVolunteers, type Volunteers } from './demo/volunteers.ts'

const say = (text: string) => process.stdout.write(`${text}\n`)

async function train(options: DemoOptions, signal: AbortSignal): Promise<boolean> {
  const { volunteers: count, out } = options
  const corpus = await demoText(options)
  const dataFolder = await mkdtemp(path.join(os.tmpdir(), 'skein-demo-'))
  let server: Awaited<ReturnType<typeof startServer>> | null = null
  let volunteers: Volunteers | null = null
  try {
    server = await startServer({ host: '127.0.0.1', port: 0, dataFolder, logLevel: 'error', ratePerMinute: 1_000_000 })
    const origin = server.url.replace(/\/$/, '')
    const api = createApiClient(origin, signal)
    say(`Server at ${origin}; console at ${origin}/console`)
    const { dataset, run } = await uploadAndLaunch(api, options, corpus, say)

    signal.throwIfAborted()
    volunteers = await openVolunteers(origin, count, options.headed)
    let adapter = ''
    const progress = terminalProgress(run.config.steps)
    const followed = await followRun(
      api,
      run.id,
      { ...progress, detail: (detail) => (progress.detail(detail), (adapter ||= adaptersOf(detail))) },
      signal,
    )
    const { detail } = followed
    requireFinished(detail)
    const summary = demoSummary(followed, { volunteers: count, wallSeconds: process.uptime(), adapter })
    await leaveOutcome({ api, detail, dataset, text: corpus.text, summary, out, say })
    if (lossFell(summary)) return true
    say('The loss did not fall.')
    return false
  } catch (caught) {
    if (volunteers && !signal.aborted) for (const line of await volunteers.report()) say(line)
    throw caught
  } finally {
    await volunteers?.close().catch(() => {})
    await server?.close().catch(() => {})
    await rm(dataFolder, { recursive: true, force: true })
  }
}

async function main(): Promise<number> {
  const options = demoOptions(process.argv.slice(2))
  if (!options) {
    say(DEMO_USAGE)
    return 0
  }
  const interrupt = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (interrupt.signal.aborted) process.exit(130)
      say('\nStopping the server and the volunteers.')
      interrupt.abort(new SkeinError({ code: 'demo.interrupted', message: 'Interrupted.', remedy: '' }))
    })
  }
  try {
    const { chaos } = options
    const well =
      chaos === null
        ? await train(options, interrupt.signal)
        : await trainUnderChaos({ ...options, chaos }, interrupt.signal, say)
    return well ? 0 : 1
  } catch (caught) {
    if (interrupt.signal.aborted) return 130
    throw caught
  }
}

main().then(
  (code) => process.exit(code),
  (caught: unknown) => {
    console.error(caught instanceof SkeinError ? `\n${caught.message}\n  ${caught.remedy}` : caught)
    process.exit(1)
  },
)
