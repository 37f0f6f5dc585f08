/**
 * Owns links whose first connection must take TURN and stay there, since the two homes do not reach each other by the ports that
 * it has, and what becomes of them once new ports do: one that is idle, of agents and of a browser, and one amid its frames.
 */
import { setTimeout as pause } from 'node:timers/promises'
import type { LinkKind } from '../../../src/protocol/control.ts'
import { openBox } from '../box/box.ts'
import { agentEnd, browserEnd } from '../box/ends.ts'
import { openMeeting } from '../box/meeting.ts'
import { homeLine } from '../box/shape.ts'

const GAP_MS = 50
const OPEN_MS = 30_000
const TRIED_MS = 3_000
/** The first direct dial comes ten seconds after the link was found to go through TURN. */
const DIRECT_MS = 30_000
const AFTER_MS = 1_000

const CASES = [
  { name: 'agents', first: agentEnd, frames: false },
  { name: 'browser', first: browserEnd, frames: false },
  { name: 'frames', first: agentEnd, frames: true },
] as const
type Case = (typeof CASES)[number]

export interface ShorterWay {
  name: Case['name']
  /** The way before the homes reached each other, and at the end, as each end sees it. */
  before: LinkKind[]
  after: LinkKind[]
  sent: number
  /** Bytes of each frame that came, in each direction; every one has another size. */
  arrived: number[][]
  refused: string[]
  /** Whom either end was told to have lost. */
  lost: string[]
  directMs: number | null
}

/** Null where no coturn is installed. */
export type ShorterWays = ShorterWay[] | null

const homes = ({ name }: Case) => [`${name}-a`, `${name}-b`] as const
const line = homeLine(4, 20)
const box = await openBox(CASES.flatMap((one) => homes(one).map((name) => ({ name, nat: 'cone' as const, line }))))
const meeting = await openMeeting(box)

const all = (kinds: LinkKind[], kind: LinkKind) => kinds.length > 0 && kinds.every((one) => one === kind)
const sizeOf = (frame: number) => 20_000 + frame

async function follow(one: Case): Promise<ShorterWay> {
  const seen: ShorterWay = {
    ...{ name: one.name, before: [], after: [], sent: 0, arrived: [], refused: [], lost: [], directMs: null },
  }
  const [nameA, nameB] = homes(one)
  const [homeA, homeB] = [box.host(nameA), box.host(nameB)]
  const part = async (from: 'everybody' | 'who tried') => {
    await homeA.part(homeB.address, from)
    await homeB.part(homeA.address, from)
  }
  await part('everybody')
  const [a, b] = await Promise.all([one.first(homeA, meeting.origin), agentEnd(homeB, meeting.origin)])
  await a.begin(meeting.identity(nameA, { turn: true, relay: false }))
  await b.begin(meeting.identity(nameB, { turn: true, relay: false }))
  await Promise.all([a.setPartners([nameB]), b.setPartners([nameA])])
  const ways = async () => [await a.way(nameB), await b.way(nameA)]

  const began = performance.now()
  while (!all(seen.before, 'relayed')) {
    if (performance.now() - began > OPEN_MS) return seen
    await pause(100)
    seen.before = await ways()
  }
  // Whatever ports that connection has are tried by now.
  await pause(TRIED_MS)
  await part('who tried')

  const sends: Promise<string | null>[] = []
  const reached = performance.now()
  while (performance.now() - reached < (seen.directMs ?? DIRECT_MS) + AFTER_MS) {
    if (one.frames) {
      sends.push(a.sendOther(nameB, 9, sizeOf(seen.sent)), b.sendOther(nameA, 9, sizeOf(seen.sent)))
      seen.sent += 1
    }
    seen.after = await ways()
    if (all(seen.after, 'direct')) seen.directMs ??= performance.now() - reached
    await pause(GAP_MS)
  }
  seen.refused = (await Promise.all(sends)).filter((code) => code !== null)
  await pause(AFTER_MS)
  seen.arrived = [await a.others(), await b.others()].map((frames) => frames.map(([, , bytes]) => bytes))
  seen.lost = [...(await a.lost()), ...(await b.lost())]
  return seen
}

const result: ShorterWays = meeting.hasTurn ? await Promise.all(CASES.map(follow)) : null
console.log(JSON.stringify(result))
process.exit(0)
