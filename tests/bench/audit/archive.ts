/** Owns the file in which questions and answers go from one machine to another, so that devices far apart can be paired. */
import { readFileSync, writeFileSync } from 'node:fs'
import { deserialize, serialize } from 'node:v8'
import type { DeviceClass } from '../../../src/audit/tolerances.ts'
import { fail } from '../../../src/protocol/errors.ts'
import type { StageAnswers } from './answers.ts'
import type { Recording } from './questions.ts'

const FORMAT = 'skein audit archive 1'

/** Everything that one adapter answered with one choice of kernels. */
export interface Answered {
  readonly device: DeviceClass
  /** The kernels' names. */
  readonly kernels: string
  readonly stages: readonly StageAnswers[]
}

export interface Archive {
  readonly recording: Recording
  readonly answered: readonly Answered[]
  /** What liars who compute something else would send, by what they do. */
  readonly lies?: Readonly<Record<string, Answered>>
}

export function writeArchive(file: string, archive: Archive): void {
  writeFileSync(file, serialize({ format: FORMAT, ...archive }))
}

/** @throws SkeinError `bench.archive` */
export function readArchive(file: string): Archive {
  let read: ({ format?: unknown } & Archive) | null = null
  try {
    read = deserialize(readFileSync(file)) as { format?: unknown } & Archive
  } catch {
    // Said below.
  }
  if (read?.format === FORMAT) return read
  return fail(
    'bench.archive',
    `${file} holds no recorded stages.`,
    'Write one with `npm run bench -- audit --out FILE`.',
  )
}
