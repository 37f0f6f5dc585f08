/** Owns what the contribute page says of memory: what the device offers, beside what the stages of a run need. */
import { estimateStageMemory } from '../../model/memory.ts'
import type { RunSummary } from '../../protocol/api.ts'
import type { VolunteerSnapshot } from '../../volunteer/snapshot.ts'

export interface StageNeed {
  readonly label: string
  /** By formula, in bytes. */
  readonly bytes: number
  /** False where the device cannot hold it. */
  readonly fits: boolean
}

export interface MemoryFit {
  /** The run that is spoken of: the one this device works in, else the newest that waits for devices. */
  readonly run: string
  readonly needs: readonly StageNeed[]
}

type OpenRun = Pick<RunSummary, 'id' | 'name' | 'state' | 'config' | 'createdAt'>

/** Stages that are listed one by one; of more, the smallest and the largest. */
const LISTED = 4

/** Null where there is no run to compare with. */
export function memoryFit(
  { memory, run: mine, stage }: Pick<VolunteerSnapshot, 'memory' | 'run' | 'stage'>,
  runs: readonly OpenRun[],
): MemoryFit | null {
  const waiting = runs.filter(({ state }) => state === 'waiting').toSorted((a, b) => b.createdAt - a.createdAt)
  const run = mine ? runs.find(({ id }) => id === mine.id) : waiting[0]
  if (!run || !memory) return null
  const { config, name } = run
  const bytesOf = (s: number) => estimateStageMemory(config, s).total
  const need = (label: string, bytes: number): StageNeed => ({ label, bytes, fits: bytes <= memory.memoryBytes })
  const at = (s: number) => need(`Stage ${s + 1} of ${config.stages} needs`, bytesOf(s))
  if (mine && stage !== null) return { run: name, needs: [at(stage)] }
  const stages = Array.from({ length: config.stages }, (_, s) => s)
  if (stages.length <= LISTED) return { run: name, needs: stages.map(at) }
  const all = stages.map(bytesOf)
  const needs = [need('The smallest stage needs', Math.min(...all)), need('The largest stage needs', Math.max(...all))]
  return { run: name, needs }
}

/** How sure the offer is, in words. */
export function triedWords({ memoryBytes, triedBytes }: NonNullable<VolunteerSnapshot['memory']>): string {
  if (triedBytes >= memoryBytes) return 'taken once to try, and freed'
  return `tried up to ${Math.floor(triedBytes / 2 ** 20)} MiB`
}
