/** Owns what the matrix of NATs should show, and the table of what it did. */
import type { LinkKind } from '../../src/protocol/control.ts'
import { NATS, type Nat } from './box/nat.ts'
import type { NatMatrix, Row } from './programs/natMatrix.ts'

/**
 * The best way that there is between two homes, which is the one that they are to come to. The second end is an agent, and no TURN
 * joins one where UDP is blocked: native WebRTC speaks to TURN by UDP alone. A browser speaks to it by TCP as well, but Chromium’s
 * checks from there have the ICE tiebreaker 0 (RFC 8445, 16.1, allows it), which libjuice takes for none and answers with error 400:
 * its issue 355, open in node-datachannel 0.33.4.
 */
export function bestWay({ first, second, turn }: Pick<Row, 'first' | 'second' | 'turn'>): LinkKind {
  const pair: readonly Nat[] = [first, second]
  if (pair.includes('blocked')) return 'server'
  if (pair.includes('open') || !pair.includes('symmetric')) return 'direct'
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
