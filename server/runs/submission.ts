/** Owns how a run's record becomes what the orchestrator is given. */
import { evalWindowStarts } from '../../src/formats/windows.ts'
import { estimateStageMemory } from '../../src/model/memory.ts'
import type { RunConfig } from '../../src/protocol/runConfig.ts'
import type { CheckpointRecord, RunRecord } from '../db/store.ts'
import type { DatasetRef, RunSubmission } from '../orchestrator/types.ts'

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
