/** Owns what the matrix of NATs should show, and the table of what it did. */
import type { LinkKind } from '../../src/protocol/control.ts'
import { NATS, type Nat } from './box/nat.ts'
import type { NatMatrix, Row } from './programs/natMatrix.ts'

/** The best way that there is between two homes, which is the one that they are to come to. Native WebRTC speaks to TURN by UDP alone; a browser by TCP as well. */
export function bestWay(
  { first, second, turn }: Pick<Row, 'first' | 'second' | 'turn'>,
  firstEnd: 'agent' | 'browser',
): LinkKind {
  const pair: readonly Nat[] = [first, second]
  if (second === 'blocked' || (first === 'blocked' && firstEnd === 'agent')) return 'server'
  const direct = !pair.includes('blocked') && (pair.includes('open') || !pair.includes('symmetric'))
  if (direct) return 'direct'
  return turn ? 'relayed' : 'server'
}

const words: Record<LinkKind, string> = { direct: 'direct', relayed: 'TURN', server: 'server', unknown: 'none' }

/** A row for each kind of home, and for each the way and the seconds until a frame had come. */
export function matrixTable({ rows }: NatMatrix, turn: boolean): string[][] {
  const cell = (first: Nat, second: Nat) => {
    const row = rows.find((one) => one.turn === turn && one.first === first && one.second === second)
    const [there, back] = row?.openMs ?? [null, null]
    if (!row || there === null || back === null) return 'no frame'
    return `${words[row.way]} ${(Math.max(there, back) / 1000).toFixed(1)} s`
  }
  return [
    [turn ? 'with TURN' : 'without TURN', ...NATS],
    ...NATS.map((first) => [first, ...NATS.map((second) => cell(first, second))]),
  ]
}
