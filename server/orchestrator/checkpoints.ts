/** Owns the way of a checkpoint: owners upload their shards while training goes on, the store reads back, then it counts. */
import type { ServerMessage, StageCheckpoint } from '../../src/protocol/control.ts'
import type { ErrorBody } from '../../src/protocol/errors.ts'
import { endWhenWhole } from './commit.ts'
import { rollBackWhenDue } from './generations.ts'
import { giveUpRecut, recutWhenSaved } from './recutting.ts'
import type { FleetNode, OrchestratorCommand, OrchestratorState, Run, RunMessage } from './types.ts'

type Commands = OrchestratorCommand[]

/** Right after a commit, before anything changes the weights again. */
export function saveWhenDue(run: Run, now: number, commands: Commands): void {
  const { step, config } = run
  const due = step % config.checkpointEvery === 0 || step === config.steps || run.saveSoon
  if (!due || step <= run.checkpoint.step || run.members.length === 0) return
  // One at a time: the next is made as soon as the one under way is kept.
  run.saveSoon = true
  if (run.saving || run.round?.apply) return
  run.saveSoon = false
  const asked = new Map<string, string>()
  const tasks = new Map<string, number[]>()
  run.owners.forEach((shards, stage) =>
    shards.forEach((owners, shard) => {
      // Who has held the moments since the commit; at the very end owners may have moved since.
      const holder = owners.find((id) => run.holders[stage]![shard]!.get(id) === step) ?? owners[0]!
      asked.set(`${stage}:${shard}`, holder)
      const task = tasks.get(holder)
      if (task) task.push(shard)
      else tasks.set(holder, [shard])
    }),
  )
  run.saving = { step, startedAt: now, shards: new Map(), asked, publishing: null }
  const { generation } = run
  for (const [nodeId, shards] of tasks) {
    const message: ServerMessage = { type: 'save', generation, step, shards }
    commands.push({ type: 'send', nodeId, message })
  }
}

export function onShardSaved(
  run: Run,
  node: FleetNode,
  message: Extract<RunMessage, { type: 'shardSaved' }>,
  now: number,
  commands: Commands,
): void {
  const { saving } = run
  const place = `${node.stage}:${message.shard}`
  if (!saving || saving.step !== message.step || saving.publishing || saving.asked.get(place) !== node.id) return
  saving.shards.set(place, message)
  run.lastProgress = now
  if (saving.shards.size < saving.asked.size) return
  const stages: StageCheckpoint[] = run.owners.map((shards, stage) => ({
    stage,
    chunks: shards.flatMap((_, shard) => saving.shards.get(`${stage}:${shard}`)!.chunks),
  }))
  saving.publishing = stages
  commands.push({ type: 'publishCheckpoint', runId: run.id, step: saving.step, stages })
}

/** A node that was to save and has not is gone: the checkpoint cannot be whole, the next commit makes another. */
export function saveWithout(run: Run, nodeId: string, now: number, commands: Commands): void {
  const { saving } = run
  if (!saving || saving.publishing) return
  for (const [place, id] of saving.asked) {
    if (id !== nodeId || saving.shards.has(place)) continue
    giveUpSaving(run, `The checkpoint of step ${saving.step} lost a volunteer; another is made soon.`, now, commands)
    return
  }
}

export function giveUpSaving(run: Run, reason: string, now: number, commands: Commands): void {
  run.saving = null
  run.saveSoon = true
  if (run.recut) giveUpRecut(run, 'the checkpoint did not come about.', commands)
  commands.push({ type: 'tell', runId: run.id, step: run.step, text: reason })
  // After the last step there is no further commit to wait for.
  if (run.step >= run.config.steps) saveWhenDue(run, now, commands)
}

export function onCheckpointPublished(
  state: OrchestratorState,
  runId: string,
  checkpoint: { step: number; stages: StageCheckpoint[] },
  now: number,
  commands: Commands,
): void {
  const run = state.runs.get(runId)
  const saving = run?.saving
  if (!run || !saving?.publishing || saving.step !== checkpoint.step) return
  // The answer to an attempt that was given up may come while the same step is being saved again.
  if (!sameChunks(saving.publishing, checkpoint.stages)) return
  run.checkpoint = checkpoint
  run.saving = null
  run.lastProgress = now
  if (run.members.length === 0) rollBackWhenDue(run, commands)
  else if (!recutWhenSaved(run, commands)) {
    if (run.saveSoon) saveWhenDue(run, now, commands)
    endWhenWhole(state, run, commands)
  }
}

function sameChunks(asked: readonly StageCheckpoint[], kept: readonly StageCheckpoint[]): boolean {
  const hashes = (stages: readonly StageCheckpoint[]) =>
    stages.map(({ chunks }) => chunks.map(({ hash }) => hash).join())
  return hashes(asked).join(';') === hashes(kept).join(';')
}

export function onCheckpointRefused(
  state: OrchestratorState,
  runId: string,
  step: number,
  error: ErrorBody,
  now: number,
  commands: Commands,
): void {
  const run = state.runs.get(runId)
  if (!run?.saving?.publishing || run.saving.step !== step) return
  const text = `The checkpoint of step ${step} could not be kept: ${error.message}`
  if (run.members.length > 0) {
    giveUpSaving(run, text, now, commands)
    return
  }
  run.saving = null
  commands.push({ type: 'tell', runId, step: run.step, text })
  rollBackWhenDue(run, commands)
}
