/**
 * Owns the matrix of NATs: ends in four kinds of homes against agents in four, each pair by the best way that there is.
 * The argument says what the first ends are: `agent`, or `browser`, which takes a machine that can carry four of them.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { longestWay } from '../../../src/net/route.ts'
import type { LinkKind } from '../../../src/protocol/control.ts'
import { openBox } from '../box/box.ts'
import { agentEnd, browserEnd, type RemoteEnd } from '../box/ends.ts'
import { openMeeting } from '../box/meeting.ts'
import { NATS, type Nat } from '../box/nat.ts'
import { homeLine } from '../box/shape.ts'
import { bestWay } from '../matrixTable.ts'

export interface Row {
  turn: boolean
  first: Nat
  second: Nat
  /** The longer of those that the two ends see, once it is the best there is, or when that had to be. */
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
/** A link that ICE took through TURN is dialled directly ten seconds later, which may take fifteen. */
const BEST_WAY_MS = 30_000
const PROBE_BYTES = 100_000

// Short enough that one connection a pair will do: there are sixteen pairs at once.
const line = homeLine(2, 50)
const box = await openBox(
  NATS.flatMap((nat) => [
    { name: `first-${nat}`, nat, line },
    { name: `second-${nat}`, nat, line },
  ]),
)
const meeting = await openMeeting(box)
const ends = new Map<string, RemoteEnd>()
const firstKind = process.argv[2] === 'browser' ? 'browser' : 'agent'
const firstEnd = firstKind === 'browser' ? browserEnd : agentEnd
for (const nat of NATS) {
  ends.set(`first-${nat}`, await firstEnd(box.host(`first-${nat}`), meeting.origin))
  ends.set(`second-${nat}`, await agentEnd(box.host(`second-${nat}`), meeting.origin))
}

async function settles<T>(ask: () => Promise<T>, right: (value: T) => boolean, deadlineMs: number): Promise<T> {
  const until = performance.now() + deadlineMs
  for (;;) {
    const value = await ask()
    if (right(value) || performance.now() > until) return value
    await pause(200)
  }
}

async function pairOf(round: string, turn: boolean, first: Nat, second: Nat): Promise<Row> {
  const [a, b] = [ends.get(`first-${first}`)!, ends.get(`second-${second}`)!]
  const [nameA, nameB] = [`${round}-first-${first}`, `${round}-second-${second}`]
  const start = performance.now()
  const arrival = async (at: RemoteEnd, from: string) => {
    const here = (all: [string, number, number][]) => all.some(([who]) => who === from)
    return here(await settles(() => at.others(), here, DEADLINE_MS)) ? Math.round(performance.now() - start) : null
  }
  const send = async (from: RemoteEnd, to: string) => {
    // A frame waits for its link for a while only.
    for (let tries = 0; tries < 4; tries++) if ((await from.sendOther(to, 9, PROBE_BYTES)) === null) return
  }
  const [openA, openB] = await Promise.all([arrival(a, nameB), arrival(b, nameA), send(a, nameB), send(b, nameA)])
  const way = await settles(
    async () => longestWay(await Promise.all([a.way(nameB), b.way(nameA)])),
    (kind) => kind === bestWay({ first, second, turn }),
    BEST_WAY_MS,
  )
  return { turn, first, second, way, openMs: [openA, openB] }
}

const rows: Row[] = []
for (const turn of meeting.hasTurn ? [true, false] : [false]) {
  const round = turn ? 'turn' : 'plain'
  for (const [name, end] of ends) {
    const identity = meeting.identity(`${round}-${name}`, { turn, relay: true })
    await (turn || !meeting.hasTurn ? end.begin(identity) : end.join(identity))
  }
  const pairs = NATS.flatMap((first) => NATS.map((second) => pairOf(round, turn, first, second)))
  rows.push(...(await Promise.all(pairs)))
}
console.log(JSON.stringify({ rows, hasTurn: meeting.hasTurn } satisfies NatMatrix))
process.exit(0)
