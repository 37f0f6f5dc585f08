/** Owns `npm run demo -- --chaos SEED`: a run left alone, the same run disturbed, and whether both are the same run. */
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { stepMicrobatches } from '../../../../src/protocol/lanes.ts'
import { createApiClient } from '../../apiClient.ts'
import { followRun, type FollowedRun } from '../follow.ts'
import { terminalProgress, uploadAndLaunch } from '../launch.ts'
import type { DemoOptions } from '../options.ts'
import { adaptersOf, leaveOutcome, requireFinished } from '../outcome.ts'
import { speed, type Progress } from '../progress.ts'
import { demoSummary, lossFell } from '../summary.ts'
import { demoText } from '../text.ts'
import { Crew } from './crew.ts'
import { Disturbance } from './disturbance.ts'
import { chaosPlan } from './plan.ts'
import { blowLines, chaosSummary, newcomerLines } from './report.ts'
import { startServerProcess, type ServerProcess } from './serverProcess.ts'
import { compareTrajectories, isSame, SAME_LOSS, type TrajectoryDifference } from './trajectory.ts'

/** @returns whether the disturbed run was the undisturbed one, step by step, and learned something */
export async function trainUnderChaos(
  options: DemoOptions & { chaos: number },
  signal: AbortSignal,
  say: (text: string) => void,
): Promise<boolean> {
  const { volunteers: count, chaos: seed, headed } = options
  const corpus = await demoText(options)
  const folder = await mkdtemp(path.join(os.tmpdir(), 'skein-'))
  let server: ServerProcess | null = null
  let crew: Crew | null = null
  try {
    server = await startServerProcess(path.join(folder, 'data'))
    const { origin } = server
    const api = createApiClient(origin, signal)
    say(`Server at ${origin}; console at ${origin}/console`)
    const { dataset, run } = await uploadAndLaunch(api, options, corpus, say)
    const { steps } = run.config

    signal.throwIfAborted()
    crew = new Crew({ origin, folder, headed, signal })
    for (let i = 0; i < count; i++) await crew.open()
    let adapter = ''
    const follow = (runId: string, more: Partial<Progress> = {}): Promise<FollowedRun> => {
      const shown = terminalProgress(steps)
      const progress: Progress = {
        detail: (detail) => (shown.detail(detail), (adapter ||= adaptersOf(detail)), more.detail?.(detail)),
        step: (metric) => (shown.step(metric), more.step?.(metric)),
        rollback: (toStep) => (shown.rollback(toStep), more.rollback?.(toStep)),
        end: () => shown.end(),
      }
      return followRun(api, runId, progress, signal)
    }
    say('\nFirst the run as it is when nobody disturbs it:')
    const undisturbed = await follow(run.id)
    requireFinished(undisturbed.detail)

    const plan = chaosPlan(seed, steps)
    say(`\nNow the same run, disturbed ${plan.length} times by the plan of seed ${seed}:`)
    const disturbance = new Disturbance({
      plan,
      crew,
      server,
      microbatches: stepMicrobatches(run.config),
      stepMs: speed(undisturbed.metrics)?.stepMs ?? 0,
      say: (text) => say(`  ✗ ${text}`),
    })
    const again = await api.launch({ name: `${run.name}, disturbed`, datasetId: dataset.id, config: options.config })
    const ended = new AbortController()
    const blows = disturbance.run().catch((caught: unknown) => ended.abort(caught))
    let disturbed: FollowedRun
    try {
      disturbed = await Promise.race([
        follow(again.id, {
          detail: ({ state }) =>
            state !== 'waiting' && state !== 'preparing' && state !== 'training' && disturbance.end(),
          step: ({ step }) => disturbance.committed(step),
          rollback: (toStep) => disturbance.committed(toStep),
        }),
        new Promise<never>((_, reject) =>
          ended.signal.addEventListener('abort', () => reject(ended.signal.reason as Error)),
        ),
      ])
    } finally {
      disturbance.end()
      await blows
    }
    requireFinished(disturbed.detail)
    await crew.settled()

    const { takeovers } = disturbance
    const difference = compareTrajectories(undisturbed.metrics, disturbed.metrics, steps)
    const figures = chaosSummary(seed, undisturbed.metrics, disturbed.detail, takeovers, crew.newcomers, difference)
    say('')
    for (const line of [...blowLines(takeovers), '', ...newcomerLines(crew.newcomers), '']) say(line)
    for (const fault of crew.faults) say(`  A newcomer did not make it: ${fault}`)
    const left = plan.length - takeovers.struck.length
    if (left > 0) say(`  ${left} of ${plan.length} disturbances were not reached before the last step.`)
    say(`  ${figures.recoveredLeases} leases recovered, ${figures.rollbacks} rollbacks.`)
    say(`  ${verdict(difference)}`)

    const summary = {
      ...demoSummary(disturbed, { volunteers: count, wallSeconds: process.uptime(), adapter }),
      chaos: figures,
    }
    await leaveOutcome({ api, detail: disturbed.detail, dataset, text: corpus.text, summary, out: options.out, say })
    if (!lossFell(summary)) say('The loss did not fall.')
    return isSame(difference) && lossFell(summary)
  } catch (caught) {
    if (crew && !signal.aborted) {
      for (const line of await crew.report()) say(line)
      for (const fault of crew.faults) say(`A newcomer did not make it: ${fault}`)
    }
    const said = server?.said().trim()
    if (said && !signal.aborted) say(`The server said: ${said}`)
    throw caught
  } finally {
    await crew?.close().catch(() => {})
    await server?.close().catch(() => {})
    await rm(folder, { recursive: true, force: true, maxRetries: 5 })
  }
}

function verdict({ largest, atStep, missing }: TrajectoryDifference): string {
  if (missing.length > 0) return `Steps that one of the two runs lacks: ${missing.join(', ')}.`
  const size = largest === 0 ? 'none' : `${largest.toExponential(1)}, at step ${atStep}`
  const holds = largest <= SAME_LOSS ? 'within' : 'more than'
  return `Largest relative difference of a step's loss: ${size}; that is ${holds} ${SAME_LOSS}.`
}
