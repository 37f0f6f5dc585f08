/** Owns how what a researcher asks for becomes a configuration, and a run's record what the orchestrator is given. */
import type { z } from 'zod'
import { evalWindowStarts } from '../../src/formats/windows.ts'
import { validateRunConfig } from '../../src/model/config.ts'
import { estimateStageMemory } from '../../src/model/memory.ts'
import type { launchRequestSchema } from '../../src/protocol/api.ts'
import { fail } from '../../src/protocol/errors.ts'
import type { RunConfig } from '../../src/protocol/runConfig.ts'
import type { CheckpointRecord, DatasetRecord, RunRecord, Store } from '../db/store.ts'
import type { DatasetRef, RunSubmission } from '../orchestrator/types.ts'

/** Fills in what a configuration leaves to its dataset. @throws SkeinError `dataset.unknown`, `run.*` */
export async function settle(
  store: Pick<Store, 'dataset'>,
  datasetId: string,
  asked: z.output<typeof launchRequestSchema>['config'],
): Promise<{ config: RunConfig; dataset: DatasetRecord }> {
  const dataset = await store.dataset(datasetId)
  if (!dataset)
    return fail(
      'dataset.unknown',
      `There is no dataset ${datasetId}.`,
      'Upload a text first and use the id in the answer.',
    )
  const config = { ...asked, model: { ...asked.model, vocabSize: asked.model.vocabSize ?? dataset.vocabSize } }
  validateRunConfig(config, dataset)
  return { config, dataset }
}

/** A run that has done nothing yet. */
export function freshRun(
  about: Pick<RunRecord, 'id' | 'name' | 'datasetId' | 'config' | 'payment' | 'createdAt'>,
): RunRecord {
  return {
    ...about,
    state: 'waiting',
    detail: 'Waiting for volunteers.',
    step: 0,
    generation: 0,
    valLoss: null,
    rollbacks: 0,
    boundaryBytesPerToken: null,
    startedAt: null,
    finishedAt: null,
    prepared: null,
    recovered: 0,
  }
}

export function submission(
  run: RunRecord,
  dataset: DatasetRef,
  checkpoint: CheckpointRecord,
): Omit<RunSubmission, 'unapplied' | 'recovered' | 'reservations' | 'purse' | 'recovering'> {
  const { id, name, config, generation, step } = run
  const { tokens, trainTokens } = dataset
  return {
    id,
    name,
    config,
    generation,
    step,
    dataset: { id: dataset.id, tokens, trainTokens },
    checkpoint: { step: checkpoint.step, stages: checkpoint.stages },
    stageBytes: stageBytesOf(config),
    evalWindows: evalWindowStarts(dataset, config.model.blockSize, config.evalTokens).length,
  }
}

/** Bytes a node needs for each stage. */
export function stageBytesOf(config: RunConfig): number[] {
  return Array.from({ length: config.stages }, (_, stage) => estimateStageMemory(config, stage).total)
}
