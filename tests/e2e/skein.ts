/** Owns the fixture of the end-to-end specs: a real server on a free port, and volunteers in profiles of their own. */
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { test as base, type BrowserContext, type Page } from '@playwright/test'
import { createApiClient, type ApiClient } from '../../server/cli/apiClient.ts'
import type { ServerConfig } from '../../server/config.ts'
import { startServer } from '../../server/main.ts'
import { generateCorpus } from '../../src/formats/corpus.ts'
import type { DatasetView, RunDetail, StepMetric } from '../../src/protocol/api.ts'
import type { RunConfigInput } from '../../src/protocol/runConfig.ts'

export { expect } from '@playwright/test'

/** Four layers so small that a software adapter takes milliseconds for a step. */
export const tinyModel = { dModel: 32, layers: 4, heads: 4, kvHeads: 2, ffn: 48, blockSize: 16 }
export const tinyConfig: RunConfigInput = {
  model: tinyModel,
  batch: 4,
  microbatch: 1,
  steps: 6,
  stages: 2,
  replicas: 1,
  evalTokens: 100_000,
}

export interface FinishedRun {
  detail: RunDetail
  metrics: StepMetric[]
  /** Everybody who held a stage, as `grid[stage][replica]` showed it. */
  holders: Set<string>
}

export interface Skein {
  origin: string
  /** Where the server keeps its database. */
  dataFolder: string
  api: ApiClient
  corpus: string
  dataset: DatasetView
  /** A volunteer in a fresh profile, its button pressed by the address. */
  volunteer(): Promise<Page>
  /** A fresh profile, nothing opened. */
  profile(): Promise<BrowserContext>
  launch(name: string, config: RunConfigInput): Promise<string>
  /** Follows a run to its end, or until `enough` says so. */
  follow(runId: string, enough?: (run: FinishedRun) => boolean): Promise<FinishedRun>
}

export const volunteerPath = '/?start=1&adapter=software'

export const test = base.extend<{ pageFolder: string; serverOptions: Partial<ServerConfig>; skein: Skein }>({
  /** The built page that the server hands out. */
  pageFolder: [path.resolve(import.meta.dirname, '..', '..', 'dist'), { option: true }],
  /** Settings of the server in which a spec differs from the others. */
  serverOptions: [{}, { option: true }],
  skein: async ({ browser, contextOptions, permissions, pageFolder, serverOptions }, use) => {
    const dataFolder = await mkdtemp(path.join(os.tmpdir(), 'skein-e2e-'))
    const server = await startServer({
      host: '127.0.0.1',
      port: 0,
      dataFolder,
      staticFolder: pageFolder,
      heartbeatMs: 500,
      logLevel: 'error',
      ratePerMinute: 1_000_000,
      ...serverOptions,
    })
    const contexts: BrowserContext[] = []
    const api = createApiClient(server.url)
    const corpus = generateCorpus(7, 8000)
    const dataset = await api.uploadDataset('little stories', corpus)
    const profile = async () => {
      const context = await browser.newContext({ ...contextOptions, permissions: permissions ?? [] })
      contexts.push(context)
      return context
    }
    await use({
      origin: server.url,
      dataFolder,
      api,
      corpus,
      dataset,
      profile,
      async volunteer() {
        const page = await (await profile()).newPage()
        await page.goto(server.url + volunteerPath)
        return page
      },
      launch: async (name, config) => (await api.launch({ name, datasetId: dataset.id, config })).id,
      follow: (runId, enough) => follow(api, runId, enough),
    })
    for (const context of contexts) await context.close()
    await server.close()
    await rm(dataFolder, { recursive: true, force: true })
  },
})

async function follow(
  api: ApiClient,
  runId: string,
  enough: (run: FinishedRun) => boolean = () => false,
): Promise<FinishedRun> {
  const run: { detail: RunDetail | null; metrics: StepMetric[]; holders: Set<string> } = {
    detail: null,
    metrics: [],
    holders: new Set(),
  }
  for await (const event of api.live(runId)) {
    if (event.type === 'snapshot') run.metrics = [...event.metrics]
    if (event.type === 'metric') run.metrics.push(event.metric)
    if (event.type === 'rollback') run.metrics = run.metrics.filter((metric) => metric.step <= event.toStep)
    if (event.type === 'snapshot' || event.type === 'detail') run.detail = event.detail
    if (!run.detail) continue
    for (const id of run.detail.grid.flat()) if (id !== null) run.holders.add(id)
    const { state, detail } = run.detail
    if (state === 'failed' || state === 'cancelled') throw new Error(`The run ended as ${state}: ${detail}`)
    if (state === 'finished' || enough(run as FinishedRun)) return run as FinishedRun
  }
  throw new Error('The live stream ended before the run did.')
}

/** The heading that says what this device does. */
export const headline = (page: Page) => page.getByRole('region', { name: 'This device' }).getByRole('heading')
