/** Owns the matrix of NATs: browsers in four kinds of homes against agents in four, each pair by the best way that there is. */
import { setTimeout as pause } from 'node:timers/promises'
import type { LinkKind } from '../../../src/protocol/control.ts'
import { openBox } from '../box/box.ts'
import { agentEnd, browserEnd, type RemoteEnd } from '../box/ends.ts'
import { openMeeting } from '../box/meeting.ts'
import { NATS, type Nat } from '../box/nat.ts'
import { homeLine } from '../box/shape.ts'

export interface Row {
  turn: boolean
  browser: Nat
  agent: Nat
  way: LinkKind
  /** From the first wish to be connected to the first frame in each direction, in milliseconds; null where none came. */
  openMs: [number | null, number | null]
}

export interface NatMatrix {
  rows: Row[]
  /** False where no coturn is installed: then the rows with TURN are left out. */
  hasTurn: boolean
}

const DEADLINE_MS = 60_000
const PROBE_BYTES = 100_000

const line = homeLine(40, 50)
const box = await openBox(
  NATS.flatMap((nat) => [
    { name: `browser-${nat}`, nat, line },
    { name: `agent-${nat}`, nat, line },
  ]),
)
const meeting = await openMeeting(box)
const ends = new Map<string, RemoteEnd>()
for (const nat of NATS) {
  ends.set(`browser-${nat}`, await browserEnd(box.host(`browser-${nat}`), meeting.origin))
  ends.set(`agent-${nat}`, await agentEnd(box.host(`agent-${nat}`), meeting.origin))
}

async function settles<T>(ask: () => Promise<T>, right: (value: T) => boolean): Promise<T> {
  const until = performance.now() + DEADLINE_MS
  for (;;) {
    const value = await ask()
    if (right(value) || performance.now() > until) return value
    await pause(200)
  }
}

async function pairOf(round: string, turn: boolean, browser: Nat, agent: Nat): Promise<Row> {
  const [a, b] = [ends.get(`browser-${browser}`)!, ends.get(`agent-${agent}`)!]
  const [nameA, nameB] = [`${round}-browser-${browser}`, `${round}-agent-${agent}`]
  const start = performance.now()
  const arrival = async (at: RemoteEnd, from: string) => {
    const here = (all: [string, number, number][]) => all.some(([who]) => who === from)
    return here(await settles(() => at.others(), here)) ? Math.round(performance.now() - start) : null
  }
  const send = async (from: RemoteEnd, to: string) => {
    // A frame waits for its link for a while only.
    for (let tries = 0; tries < 4; tries++) if ((await from.sendOther(to, 9, PROBE_BYTES)) === null) return
  }
  const [openA, openB] = await Promise.all([arrival(a, nameB), arrival(b, nameA), send(a, nameB), send(b, nameA)])
  const way = await settles(
    () => a.way(nameB),
    (kind) => kind !== 'unknown',
  )
  return { turn, browser, agent, way, openMs: [openA, openB] }
}

const rows: Row[] = []
for (const turn of meeting.hasTurn ? [true, false] : [false]) {
  const round = turn ? 'turn' : 'plain'
  for (const [name, end] of ends) {
    const identity = meeting.identity(`${round}-${name}`, { turn, relay: true })
    await (turn || !meeting.hasTurn ? end.begin(identity) : end.join(identity))
  }
  const pairs = NATS.flatMap((browser) => NATS.map((agent) => pairOf(round, turn, browser, agent)))
  rows.push(...(await Promise.all(pairs)))
}
console.log(JSON.stringify({ rows, hasTurn: meeting.hasTurn } satisfies NatMatrix))
process.exit(0)
