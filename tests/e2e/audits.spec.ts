/** Proves live audits end to end: a volunteer that lies is found out before its work counts, and honest ones are not. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { verifyFile } from '../../server/cli/ledger/verifyFile.ts'
import { auditsViewSchema, standingViewSchema } from '../../src/protocol/auditApi.ts'
import type { LedgerRow } from '../../src/protocol/ledger.ts'
import { endAgents, lyingAgent, startAgent } from './agentProcess.ts'
import { expect, test, tinyConfig } from './skein.ts'

test.afterEach(endAgents)
// Every claim is audited, and a step waits for that as long as it takes on two cores.
test.use({ serverOptions: { audits: { holdMs: 30_000, policy: { newRate: 1, settledRate: 1 } } } })

const config = { ...tinyConfig, codec: 'f32', seed: 11, batch: 6, steps: 100_000 } as const

test('a volunteer that sends a false gradient is convicted before the commit, and nothing of it is in the model', async ({
  skein,
}) => {
  test.skip(process.platform === 'win32', 'The test tells the agent by SIGUSR2.')
  test.setTimeout(300_000)
  const answer = async (at: string): Promise<unknown> => (await fetch(`${skein.origin}/api/v1${at}`)).json()
  for (let i = 0; i < 5; i++) await skein.volunteer()
  const liar = startAgent(['--server', skein.origin, '--allow-software', '--json'], lyingAgent)
  const standing = async () => ((await answer('/fleet')) as { standby: number }).standby
  await expect.poll(standing, { timeout: 60_000 }).toBe(6)
  const runId = await skein.launch('with a liar', { ...config, stages: 2, replicas: 3 })
  const lately = async () => {
    const { audits } = auditsViewSchema.parse(await answer(`/audits?run=${runId}&limit=30`))
    return new Set(audits.filter(({ verdict }) => verdict === 'passed').map(({ claimant }) => claimant)).size
  }
  await expect.poll(lately, { timeout: 120_000, message: 'Everybody works, and passes' }).toBe(6)
  const passed = async () => auditsViewSchema.parse(await answer(`/audits?run=${runId}&limit=1`)).totals.passed
  await expect.poll(passed, { timeout: 120_000, message: 'There is enough to find one lie among' }).toBeGreaterThan(10)
  const agent = (await skein.api.run(runId)).nodes.find(({ kind }) => kind === 'agent')!
  liar.child.kill('SIGUSR2')
  await expect.poll(() => liar.child.exitCode, { timeout: 60_000, message: 'The liar ends' }).toBe(1)
  const { output } = await liar.exit
  expect(output).toContain('audit.convicted')

  const audits = auditsViewSchema.parse(await answer(`/audits?run=${runId}&limit=200`))
  const convicted = audits.audits.filter(({ verdict }) => verdict === 'convicted')
  const device = convicted[0]!.claimant
  expect(new Set(convicted.map(({ claimant }) => claimant))).toEqual(new Set([device]))
  const { step } = convicted[0]!
  expect(convicted[0]).toMatchObject({
    run: runId,
    stage: agent.stage,
    reason: expect.stringContaining('parameterGradient'),
  })
  const apart = convicted[0]!.distances.find(({ tensor }) => tensor === 'parameterGradient')!
  expect(apart.distance! / apart.tolerance).toBeGreaterThan(1000)
  expect(audits.totals.passed).toBeGreaterThan(10)
  const found = standingViewSchema.parse(await answer(`/audits/standings/${device}`))
  expect(found).toMatchObject({ convictions: 1, reason: convicted[0]!.reason })
  expect(found.shutUntil).toBeGreaterThan(Date.now())

  const { metrics, detail } = await skein.follow(runId, (run) => run.metrics.length >= step + 3)
  expect(detail.rollbacks).toBe(0)
  expect(detail.events.map(({ text }) => text).join('\n')).toContain('found the work of a volunteer false')

  const entries: LedgerRow['entry'][] = []
  for (let rows: LedgerRow[]; ; entries.push(...rows.map(({ entry }) => entry))) {
    rows = ((await answer(`/ledger/rows?from=${entries.length + 1}&limit=1000`)) as { rows: LedgerRow[] }).rows
    if (rows.length === 0) break
  }
  const conviction = entries.find((entry) => entry.kind === 'conviction')!
  expect(conviction).toMatchObject({ device, run: runId, toStep: convicted[0]!.step })
  const worked = entries.flatMap((entry) => (entry.kind === 'work' && entry.device === device ? [entry.step] : []))
  expect(Math.max(...worked)).toBeLessThan(conviction.toStep)
  // The ledger has what had been audited when the lie was found, and what was since.
  expect(entries.filter(({ kind }) => kind === 'audit').length).toBeGreaterThan(audits.totals.passed)

  const folder = await mkdtemp(path.join(os.tmpdir(), 'skein-audited-'))
  const file = path.join(folder, 'ledger.ndjson')
  await writeFile(file, await (await fetch(`${skein.origin}/api/v1/ledger/export`)).text())
  expect(await verifyFile(file, { roots: new Map(), head: null, account: null, json: false })).toBe(0)
  await rm(folder, { recursive: true })

  await fetch(`${skein.origin}/api/v1/runs/${runId}/cancel`, { method: 'POST' })
  const aloneId = await skein.launch('alone', { ...config, stages: 1, replicas: 1 })
  const alone = await skein.follow(aloneId, (run) => run.metrics.length >= metrics.length)
  for (const { loss, step } of metrics)
    expect(Math.abs(loss / alone.metrics[step - 1]!.loss - 1), `step ${step}`).toBeLessThan(1e-4)
})
