/** Owns the start of a demo's run, and the lines that say what it is. */
import type { DatasetView, RunSummary } from '../../../src/protocol/api.ts'
import type { ApiClient } from '../apiClient.ts'
import type { DemoOptions } from './options.ts'
import { createProgress, type Progress } from './progress.ts'

export interface Launched {
  readonly dataset: DatasetView
  readonly run: RunSummary
}

/** @throws SkeinError what the server answers */
export async function uploadAndLaunch(
  api: ApiClient,
  { config, tokenizer }: Pick<DemoOptions, 'config' | 'tokenizer'>,
  { name, text }: { name: string; text: string },
  say: (text: string) => void,
): Promise<Launched> {
  const dataset = await api.uploadDataset(name, text, tokenizer)
  const run = await api.launch({ name: `demo on ${name}`, datasetId: dataset.id, config })
  const { stages, replicas, codec, steps } = run.config
  const unit = dataset.tokenizer === 'byte' ? 'bytes' : `characters (${dataset.vocabSize} different ones)`
  say(`Text: ${name}, ${dataset.tokens} ${unit}, the last ${dataset.tokens - dataset.trainTokens} held out.`)
  say(`Model: ${run.parameters} parameters in ${stages} stages × ${replicas} replicas, codec ${codec}, ${steps} steps.`)
  return { dataset, run }
}

/** The progress of a run of `steps` in this process's terminal. */
export const terminalProgress = (steps: number): Progress =>
  createProgress(steps, {
    isTTY: process.stdout.isTTY === true,
    columns: process.stdout.columns ?? 80,
    write: (piece) => void process.stdout.write(piece),
  })
