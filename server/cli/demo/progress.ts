/** Owns what the terminal shows while a run trains: a bar that stays in place, or plain lines where there is no terminal. */
import type { RunDetail, StepMetric } from '../../../src/protocol/api.ts'

export interface Terminal {
  readonly isTTY: boolean
  readonly columns: number
  write(text: string): void
}

export interface Progress {
  /** Once a run's state or its sentence changed. */
  detail(detail: RunDetail): void
  step(metric: StepMetric): void
  rollback(toStep: number): void
  /** Leaves the bar behind. */
  end(): void
}

/** Steps over which the shown speed is taken. */
const WINDOW = 20
/** Lines a whole run prints without a terminal. */
const PLAIN_LINES = 25

/** `95` → `1:35`; hours where there are any. */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60]
  const two = (n: number) => String(n).padStart(2, '0')
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`
}

export function bar(share: number, width: number): string {
  const eighths = Math.round(Math.min(1, Math.max(0, share)) * width * 8)
  const partial = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'][eighths % 8]!
  return ('█'.repeat(Math.floor(eighths / 8)) + partial).padEnd(width)
}

/** Tokens per second and milliseconds per step over the last commits; null before the second one. */
export function speed(recent: readonly StepMetric[]): { tokensPerSecond: number; stepMs: number } | null {
  const first = recent[0]
  const last = recent.at(-1)
  if (!first || !last) return null
  // The time between commits counts what lies between steps too; the first step has only its own duration.
  const ms = last.at - first.at + first.durationMs
  if (ms <= 0) return null
  return {
    tokensPerSecond: (recent.reduce((sum, metric) => sum + metric.tokens, 0) / ms) * 1000,
    stepMs: ms / recent.length,
  }
}

export function createProgress(steps: number, terminal: Terminal): Progress {
  const every = Math.max(1, Math.ceil(steps / PLAIN_LINES))
  let recent: StepMetric[] = []
  let said = ''
  let drawn = false

  const line = (text: string) => {
    terminal.write(drawn ? `\r\u001b[K${text}\n` : `${text}\n`)
    drawn = false
  }
  return {
    detail(detail) {
      const text = detail.detail ? `${detail.state}: ${detail.detail}` : detail.state
      if (text === said) return
      said = text
      line(`  ${text}`)
    },
    step(metric) {
      recent = [...recent, metric].slice(-WINDOW)
      const now = speed(recent)
      const figures = [
        `step ${String(metric.step).padStart(String(steps).length)}/${steps}`,
        `loss ${metric.loss.toFixed(4)}`,
        now ? `${Math.round(now.tokensPerSecond)} tokens/s` : '',
        now ? `ETA ${clock(((steps - metric.step) * now.stepMs) / 1000)}` : '',
      ].filter(Boolean)
      if (!terminal.isTTY) {
        if (metric.step % every === 0 || metric.step === 1 || metric.step === steps) line(`  ${figures.join('  ')}`)
        return
      }
      const text = figures.join('  ')
      const width = Math.max(0, Math.min(30, terminal.columns - text.length - 6))
      terminal.write(`\r\u001b[K  ▕${bar(metric.step / steps, width)}▏ ${text}`.slice(0, terminal.columns + 4))
      drawn = true
    },
    rollback(toStep) {
      recent = []
      line(`  rolled back to step ${toStep}`)
    },
    end() {
      if (drawn) terminal.write('\n')
      drawn = false
    },
  }
}
