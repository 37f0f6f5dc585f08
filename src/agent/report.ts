/** Owns what the agent says of itself: a line when its phase changes, and one every so often while it trains. */
import type { AdapterDescription } from '../protocol/control.ts'
import type { VolunteerPhaseName, VolunteerSnapshot } from '../volunteer/snapshot.ts'

/** One line of the log. With --json the fields are written as they are, without it the message alone. */
export interface ReportLine {
  event: 'phase' | 'progress' | 'adapter' | 'trouble'
  message: string
  [field: string]: string | number | null
}

/** Phases that follow one another within a step: they are said once. */
const partsOfStep: ReadonlySet<VolunteerPhaseName> = new Set(['training', 'merging', 'checkpointing'])

export class Report {
  readonly #server: string
  #said = ''
  #adapter: AdapterDescription | null = null
  #trouble = ''
  #since: { at: number; tokens: number } | null = null

  /** @param server the address to name where the server is meant */
  constructor(server: string) {
    this.#server = server
  }

  /** What is new in `snapshot`; `now` is in milliseconds of any clock. */
  changes(snapshot: VolunteerSnapshot, now: number): ReportLine[] {
    const lines: ReportLine[] = []
    const { adapter, error, phase } = snapshot
    if (adapter && adapter !== this.#adapter) lines.push({ event: 'adapter', message: `GPU: ${nameOf(adapter)}` })
    this.#adapter = adapter
    const trouble =
      error && phase.name !== 'lostDevice' && phase.name !== 'blocked' ? `${error.code} ${error.message}` : ''
    if (error && trouble && trouble !== this.#trouble) {
      lines.push({ event: 'trouble', message: `${error.message} ${error.remedy}`, code: error.code })
    }
    this.#trouble = trouble
    const message = this.#wordsOf(snapshot)
    const training = partsOfStep.has(phase.name)
    if (!training) this.#since = null
    else this.#since ??= { at: now, tokens: snapshot.tokens }
    if (message !== null && message !== this.#said) lines.push(phaseLine(snapshot, message))
    this.#said = message ?? this.#said
    return lines
  }

  /** The line of every ten seconds or so; null while there is no training to tell of. */
  progress(snapshot: VolunteerSnapshot, now: number): ReportLine | null {
    const since = this.#since
    if (!since || now <= since.at || snapshot.step === null) return null
    const { step, tokens, upBytes, downBytes, link } = snapshot
    const tokensPerSecond = Math.round((1000 * (tokens - since.tokens)) / (now - since.at))
    this.#since = { at: now, tokens }
    const by = link === 'unknown' ? '' : `, ${link}`
    return {
      event: 'progress',
      message: `step ${step}: ${tokensPerSecond} tokens/s, ${size(upBytes)} up, ${size(downBytes)} down${by}`,
      step,
      tokensPerSecond,
      upBytes,
      downBytes,
      link,
    }
  }

  /** Null: nothing worth a line. */
  #wordsOf({ phase, run, stage, stages }: VolunteerSnapshot): string | null {
    const part =
      run && stage !== null && stages !== null ? `stage ${stage + 1} of ${stages} of “${run.name}”` : 'a stage'
    switch (phase.name) {
      case 'idle':
      case 'otherTab':
      case 'blocked':
        return null
      case 'checking':
        return `looking for a GPU and for ${this.#server}`
      case 'waiting':
        return run ? `stands by for ${part}` : `waiting: ${phase.reason}`
      case 'loading':
        return phase.progress === null ? `takes ${part}` : `loading the weights of ${part}`
      case 'compiling':
        return `compiling ${part}`
      case 'connecting':
        return 'connecting to the neighbours'
      case 'ready':
        return 'ready for the next step'
      case 'training':
      case 'merging':
      case 'checkpointing':
        return `training ${part}`
      case 'evaluating':
        return `evaluating ${part}`
      case 'paused':
        return 'paused'
      case 'reconnecting':
        return `${this.#server} does not answer; dialling until it does`
      case 'lostDevice':
        return `${phase.error.message} Starting again in ${phase.retryInMs / 1000} s.`
      case 'stopped':
        return 'stopped'
    }
  }
}

function phaseLine({ phase, run, stage }: VolunteerSnapshot, message: string): ReportLine {
  const line: ReportLine = { event: 'phase', message, phase: phase.name }
  if (run) Object.assign(line, { run: run.id, stage })
  if (phase.name === 'lostDevice') line.code = phase.error.code
  return line
}

const nameOf = ({ vendor, architecture, description, software }: AdapterDescription) =>
  `${description || [vendor, architecture].filter(Boolean).join(' ') || 'unnamed'}${software ? ' (software, slow)' : ''}`

function size(bytes: number): string {
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`
}

/** One line of text without its end. `at` is when it happened. */
export function formatLine(line: ReportLine, at: Date, json: boolean): string {
  const time = at.toISOString().replace(/\.\d+Z$/, 'Z')
  if (json) return JSON.stringify({ time, ...line })
  // A run's name is a stranger's text: it must not steer the terminal.
  return `${time}  ${line.message.replace(/\p{Cc}/gu, '\ufffd')}`
}
