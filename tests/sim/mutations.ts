/** Owns the proof that the simulation would see it: takes one guard out of a copy of the protocol and runs troubled worlds. */
import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Lie } from './tenure.ts'

export interface Edit {
  /** Relative to the repository's root. */
  readonly file: string
  /** As it stands in the file, once. */
  readonly text: string
  readonly without: string
}

/** Kinds of worlds: of all accidents, of them where merges overlap lanes, of owners that lie, of audited claims with one liar of a kind. */
export type Troubles = 'troubled' | 'overlapping' | 'untruthful' | Lie

export interface Mutation {
  readonly guard: string
  /** Where it is missed; those of all accidents where nothing is said. */
  readonly worlds?: Troubles
  readonly edits: readonly Edit[]
}

export const MUTATIONS: readonly Mutation[] = [
  {
    guard: 'idempotence: a repeated tensor is not computed again',
    edits: [
      {
        file: 'src/stage/machine/leases.ts',
        text: '  if ((forward ? lease.activatedBy : lease.returnedBy) !== null) return refuse(state)\n',
        without: '',
      },
    ],
  },
  {
    // Server and node both keep to it: either alone keeps the sums whole.
    guard: 'revocation for the whole step: who lost its leases has no part in the sum',
    edits: [
      { file: 'src/stage/machine.ts', text: '      current.revoked = true\n', without: '' },
      { file: 'server/orchestrator/leases.ts', text: ' && !revoked.has(id)', without: '' },
    ],
  },
  {
    guard: 'cache until commit: the maker of a tensor can give it again',
    edits: [{ file: 'src/stage/machine/leases.ts', text: '  keepOutput(lease, kind, output)\n', without: '' }],
  },
  {
    guard: 'final shards: what a lane may still change is not sent',
    worlds: 'overlapping',
    edits: [{ file: 'src/stage/machine/merge.ts', text: 'inner >= updates)', without: 'inner >= updates - 1)' }],
  },
  {
    guard: 'accepted work only: what a node signed for leases that it lost earns it nothing',
    edits: [
      { file: 'server/orchestrator/credit.ts', text: '        if (owner[place] !== id) continue\n', without: '' },
    ],
  },
  {
    guard: 'owner compare: a false update is seen',
    worlds: 'untruthful',
    edits: [
      {
        file: 'src/stage/machine/standing.ts',
        text: "type: 'compared', generation, step, shard, agrees })",
        without: "type: 'compared', generation, step, shard, agrees: agrees || true })",
      },
    ],
  },
  {
    guard: 'hold: a merge waits for the audits of its claims',
    worlds: 'share',
    edits: [
      {
        file: 'server/orchestrator/merge.ts',
        text: '  if (awaitsAudits(state, run, stage, now, commands)) return\n',
        without: '',
      },
    ],
  },
  {
    guard: 'begin again: what a liar sent is in the work of others',
    worlds: 'boundary',
    edits: [
      {
        file: 'server/orchestrator/orchestrator.ts',
        text: '      voidSteps(state, event.device, now, commands)\n',
        without: '',
      },
    ],
  },
  {
    guard: 'digests of sums: what is summed is what was signed for',
    worlds: 'equivocation',
    edits: [
      {
        file: 'server/orchestrator/merge.ts',
        text: '  if (!sumsWhatWasSigned(run, node, message, commands)) return\n',
        without: '',
      },
    ],
  },
  {
    guard: 'genuine inputs: a juror computes from what the claimant had',
    worlds: 'inputs',
    edits: [
      {
        file: 'src/stage/machine/jury.ts',
        text: 'digest: taken?.digest ?? null, claimed }',
        without: 'digest: claimed, claimed }',
      },
    ],
  },
  {
    guard: 'restored gradient: a juror puts its own share back',
    worlds: 'boundary',
    edits: [
      {
        file: 'src/stage/machine/jury.ts',
        text: '  for (const sum of current.shards) sum.spoiled = true\n',
        without: '',
      },
    ],
  },
]

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..')
/** Seeds until a mutation counts as unseen. */
export const MUTATION_SEEDS = 50
const DEADLINE_MS = 240_000

/** Runs the worlds on a copy without the guard; null when all of them held, else the sentence of the first that did not. */
export function missed({ guard, edits, worlds = 'troubled' }: Mutation): string | null {
  const copy = mkdtempSync(path.join(tmpdir(), 'skein-mutation-'))
  try {
    for (const part of ['src', 'server', 'tests/sim', 'package.json'])
      cpSync(path.join(root, part), path.join(copy, part), { recursive: true })
    symlinkSync(path.join(root, 'node_modules'), path.join(copy, 'node_modules'), 'dir')
    for (const { file, text, without } of edits) {
      const parts = readFileSync(path.join(copy, file), 'utf8').split(text)
      if (parts.length !== 2) throw new Error(`The guard stands ${parts.length - 1} times in ${file}: ${text.trim()}`)
      writeFileSync(path.join(copy, file), parts.join(without))
    }
    const probe = path.join(copy, 'tests/sim/mutationProbe.ts')
    const { status, stdout, stderr, error } = spawnSync(process.execPath, [probe, worlds, String(MUTATION_SEEDS)], {
      cwd: copy,
      encoding: 'utf8',
      timeout: DEADLINE_MS,
      maxBuffer: 64 * 1024 * 1024,
    })
    if (error) throw error
    if (status === 0) return null
    // Only a world that ran and did not hold counts: a copy that does not even start proves nothing.
    const sentence = /^violation: (.*)$/m.exec(stdout)?.[1]
    if (!sentence) throw new Error(`The copy without “${guard}” broke: ${stderr.slice(0, 2000)}`)
    return sentence
  } finally {
    rmSync(copy, { recursive: true, force: true })
  }
}

/** Prints what came of each; returns the command's exit code. */
export function runMutations(print: (text: string) => void): number {
  let unseen = 0
  for (const mutation of MUTATIONS) {
    const sentence = missed(mutation)
    if (sentence === null) unseen++
    print(`${sentence === null ? 'UNSEEN' : 'seen  '} ${mutation.guard}${sentence ? `: ${sentence}` : ''}`)
  }
  return unseen > 0 ? 1 : 0
}
