/** Owns the lines that `npm run bench -- network` measures over. */
import { homeLine, type LineShape } from '../../wan/box/shape.ts'

export interface MeasuredLink {
  readonly name: string
  readonly rttMs: number
  /** Of the line from the first host to the second; null: as fast as the machine. */
  readonly mbit: number | null
  readonly from: LineShape
  readonly to: LineShape
  /** Whether `--train` takes it when it is not told otherwise: the first is what the others are held against. */
  readonly trained?: true
}

const between = (name: string, rttMs: number, mbit: number, loss = 0): MeasuredLink => {
  const line = homeLine(rttMs, mbit, { loss })
  return { name, rttMs, mbit, from: line, to: line }
}

/** At 100 ms, with 0.1 % lost. */
const slowerUp = (name: string, up: number, down: number): MeasuredLink => {
  const line = { up: { mbit: up, delayMs: 25, loss: 0.0005 }, down: { mbit: down, delayMs: 25, loss: 0.0005 } }
  return { name, rttMs: 100, mbit: up, from: line, to: line }
}

export const MEASURED_LINKS: readonly MeasuredLink[] = [
  { name: 'unconstrained', rttMs: 0, mbit: null, from: {}, to: {}, trained: true },
  between('50ms-100mbit', 50, 100),
  between('20ms-100mbit', 20, 100),
  between('50ms-25mbit', 50, 25),
  // Half of the loss in each host's line.
  { ...between('100ms-80mbit-0.1%', 100, 80, 0.0005), trained: true },
  // Lines that are slower up than down.
  { ...slowerUp('100ms-20mbit-up', 20, 80), trained: true },
  slowerUp('100ms-8mbit-up', 8, 50),
]
