/** Owns a link whose one end gets another address amid its frames: what comes of them, and after how long. */
import { setTimeout as pause } from 'node:timers/promises'
import { openBox } from '../box/box.ts'
import { agentEnd } from '../box/ends.ts'
import { openMeeting } from '../box/meeting.ts'
import { homeLine } from '../box/shape.ts'

const FRAMES = 120
const GAP_MS = 100
const MOVES_AT = 30
const DEADLINE_MS = 40_000

export interface Roaming {
  sent: number
  /** Bytes of each frame that came; every one has another size. */
  arrived: number[]
  /** Losses that either end was told of. */
  lost: number
  /** From the move until a frame that was sent after it had come, in milliseconds. */
  recoveredMs: number | null
}

const line = homeLine(40, 50)
const box = await openBox([
  { name: 'a', nat: 'cone', line },
  { name: 'b', nat: 'open', line },
])
const meeting = await openMeeting(box)
const [a, b] = [await agentEnd(box.host('a'), meeting.origin), await agentEnd(box.host('b'), meeting.origin)]
await a.begin(meeting.identity('a', { turn: false, relay: false }))
await b.begin(meeting.identity('b', { turn: false, relay: false }))
await a.setPartners(['b'])
while (!(await a.isOpen('b'))) await pause(100)

const sends: Promise<string | null>[] = []
let movedAt = 0
const sizeOf = (frame: number) => 40_000 + frame
for (let frame = 0; frame < FRAMES; frame++) {
  if (frame === MOVES_AT) {
    movedAt = performance.now()
    await box.host('a').move()
  }
  sends.push(a.sendOther('b', 9, sizeOf(frame)))
  await pause(GAP_MS)
}
let recoveredMs: number | null = null
let arrived: number[] = []
while (performance.now() - movedAt < DEADLINE_MS) {
  arrived = (await b.others()).map(([, , bytes]) => bytes)
  if (recoveredMs === null && arrived.includes(sizeOf(FRAMES - 1))) recoveredMs = performance.now() - movedAt
  if (arrived.length >= FRAMES) break
  await pause(100)
}
const lost = (await a.lost()).length + (await b.lost()).length
console.log(JSON.stringify({ sent: FRAMES, arrived, lost, recoveredMs } satisfies Roaming))
process.exit(0)
