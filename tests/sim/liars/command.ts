/** Owns `npm run sim -- --liars P`: liars before the audits that ship, a table of each way to lie, and honest devices alone. */
import '../../../server/cli/pageImports.mjs'
import { writeFileSync } from 'node:fs'
import type { LiarRun } from '../options.ts'
import type { LiarOptions, LiarOutcome } from './liarWorld.ts'

type Say = (text: string) => void

/** Audits that all-honest fleets of different kernels are put through. */
const HONEST_AUDITS = 10_000
/** Audits passed by nodes that lie only once they are trusted: past any further fall of the rate. */
const TRUSTED = 24

const percent = (x: number) => `${(100 * x).toFixed(1)} %`

export async function simulateLiars(
  { share, nodes, steps, recorded }: LiarRun,
  { seeds, seed: first, json }: { seeds: number; seed: number; json: string | null },
  print: Say,
  say: Say,
): Promise<number> {
  // After the hooks that the shaders are loaded by.
  const { gpuSource } = await import('../../../src/agent/adapter.ts')
  const { readArchive } = await import('../../bench/audit/archive.ts')
  const { PLAN } = await import('../../bench/audit/questions.ts')
  const { completeArchive } = await import('./record.ts')
  const { lieTable, mean } = await import('./table.ts')
  const { witnessesFrom } = await import('./witnesses.ts')
  const { LIAR_WORLD, runLiarWorld } = await import('./liarWorld.ts')
  const started = performance.now()
  const gpu = await (await gpuSource(null))()
  const archive = await completeArchive(gpu, recorded ? readArchive(recorded) : null, PLAN, say)
  gpu.destroy()
  const witnesses = witnessesFrom(archive)
  const world: LiarOptions = {
    ...LIAR_WORLD,
    liars: share,
    nodes: nodes ?? LIAR_WORLD.nodes,
    steps: steps ?? LIAR_WORLD.steps,
  }
  const run = (what: string, options: Partial<LiarOptions>) =>
    Array.from({ length: seeds }, (_, i): LiarOutcome => {
      const outcome = runLiarWorld(witnesses, { ...world, seed: first + i, ...options })
      say(`${what}, seed ${first + i}: F1 ${outcome.f1.toFixed(3)}, ${outcome.honestConvicted} honest convicted`)
      return outcome
    })
  const fresh = run('newcomers', {})
  const trusted = run('trusted', { record: TRUSTED })
  const honestSteps = Math.ceil(HONEST_AUDITS / world.nodes)
  const policy = { newRate: 1, settledRate: 1 }
  const honest = runLiarWorld(witnesses, { ...world, liars: 0, steps: honestSteps, seed: first, codec: null, policy })

  const classes = archive.answered.map(({ device, kernels }) => `${device.vendor} ${device.architecture}: ${kernels}`)
  print(`Honest devices: ${classes.join('; ')}\n`)
  print(lieTable(fresh, trusted))
  const f1 = Math.min(...fresh.map((outcome) => outcome.f1))
  const steady = mean(fresh.map(({ steadyShare }) => steadyShare))
  const convicted = [...fresh, ...trusted, honest].reduce((sum, { honestConvicted }) => sum + honestConvicted, 0)
  const rows: [string, string][] = [
    ['worlds', `${seeds} of ${world.nodes} nodes, ${percent(share)} liars, ${world.steps} steps`],
    ['F1', `${f1.toFixed(3)} at the least, ${mean(fresh.map((outcome) => outcome.f1)).toFixed(3)} on the mean`],
    ['F1, liars trusted first', `${mean(trusted.map((outcome) => outcome.f1)).toFixed(3)} on the mean`],
    [
      'honest convicted',
      `${convicted}, of them ${honest.honestConvicted} in ${honest.audits} audits of honest devices alone`,
    ],
    ['audit cost', `${percent(mean(fresh.map(({ auditShare }) => auditShare)))} of the FLOPs from the first step on`],
    ['audit cost at the end', `${percent(steady)} in the last quarter`],
    ['wall seconds', ((performance.now() - started) / 1000).toFixed(1)],
  ]
  print('')
  for (const [name, value] of rows) print(`${name.padEnd(26)}${value}`)
  if (json) {
    const { vendor, architecture } = archive.answered[0]!.device
    const figures = { liars: share, liarF1: f1, honestConvicted: convicted, auditShare: steady }
    const size = { nodes: world.nodes, stages: witnesses.stageCount, seeds, steps: world.steps }
    const more = { honestAudits: honest.audits, wallSeconds: (performance.now() - started) / 1000 }
    const record = { where: 'node', adapter: `${vendor} ${architecture}`, impl: 'skein', ...size, ...figures, ...more }
    writeFileSync(json, `${JSON.stringify([record], null, 2)}\n`)
  }
  return convicted > 0 || f1 < 0.95 ? 1 : 0
}
