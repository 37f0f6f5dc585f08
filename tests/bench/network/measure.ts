/** Owns what is measured over one link in the box: how full it gets, and how long a message takes. */
import { setTimeout as pause } from 'node:timers/promises'
import { STRANDS, STRIPING_RTT_MS } from '../../../src/net/limits.ts'
import { openBox, type Box } from '../../wan/box/box.ts'
import { agentEnd, browserEnd, type RemoteEnd } from '../../wan/box/ends.ts'
import { openMeeting, type Meeting } from '../../wan/box/meeting.ts'
import type { Arrivals } from './end.ts'
import type { MeasuredLink } from './links.ts'

export interface Measurement {
  link: string
  metric: string
  value: number
  unit: string
}

export interface Pace {
  bulkSeconds: number
  /** Of each kind of timing. */
  messages: number
}

export interface Figures {
  measured: Measurement[]
  /** How late the router was, in milliseconds: figures of a starved machine are worth nothing. */
  routerLateMs: number
}

export const MESSAGE_BYTES = 64 * 1024
/** The ramp is told apart: a channel starts slowly. */
const RAMP_MS = 3_000
const OPEN_MS = 60_000

const quantile = (values: readonly number[], q: number) =>
  values.length ? [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(q * values.length))]! : NaN

const mbitOf = (bulk: Arrivals['bulk'], from: number, to: number) =>
  (bulk.filter(([at]) => at >= from && at < to).reduce((sum, [, bytes]) => sum + bytes, 0) * 8) / 1000 / (to - from)

export type EndKind = 'browser' | 'agent'

/** Two ends of one kind on two hosts in the open, whose lines are shaped for each link anew. */
export class LinkBench {
  readonly #box: Box
  readonly #meeting: Meeting
  readonly #ends: readonly [RemoteEnd, RemoteEnd]
  #links = 0

  private constructor(box: Box, meeting: Meeting, ends: readonly [RemoteEnd, RemoteEnd]) {
    this.#box = box
    this.#meeting = meeting
    this.#ends = ends
  }

  static async open(kind: EndKind): Promise<LinkBench> {
    const box = await openBox([
      { name: 'a', nat: 'open' },
      { name: 'b', nat: 'open' },
    ])
    const meeting = await openMeeting(box)
    const open = kind === 'browser' ? browserEnd : agentEnd
    const a = await open(box.host('a'), meeting.origin)
    return new LinkBench(box, meeting, [a, await open(box.host('b'), meeting.origin)])
  }

  async close(): Promise<void> {
    for (const end of this.#ends) await end.close()
    await this.#meeting.close()
    await this.#box.close()
  }

  async measure(link: MeasuredLink, pace: Pace): Promise<Figures> {
    await this.#box.host('a').shape(link.from)
    await this.#box.host('b').shape(link.to)
    const round = this.#links++
    const names = [`a${round}`, `b${round}`] as const
    const [a, b] = this.#ends
    for (const [i, end] of this.#ends.entries()) {
      const identity = this.#meeting.identity(names[i]!, { turn: false, relay: false })
      await (round === 0 ? end.begin(identity) : end.join(identity))
    }
    await a.setPartners([names[1]])
    await b.setPartners([names[0]])
    await until(() => a.isOpen(names[1]))
    // A first exchange tells how long the line is.
    const clock = await b.measureClock(names[0])
    const connections = link.rttMs >= STRIPING_RTT_MS ? STRANDS : 1
    await until(async () => (await a.connectionsTo(names[1])) >= connections)
    await this.#box.counters()
    const measured = await this.#figures(link, clock, names[1], pace)
    return { measured, routerLateMs: (await this.#box.counters()).late.mostMs }
  }

  async #figures(link: MeasuredLink, clock: { ahead: number; rttMs: number }, to: string, pace: Pace) {
    const [a, b] = this.#ends
    const figures: Measurement[] = []
    const add = (metric: string, value: number, unit: string) =>
      figures.push({ link: link.name, metric, value: Number(value.toFixed(2)), unit })
    const timing = (name: string, { timed }: Arrivals) => {
      add(`${name} p50`, quantile(timed, 0.5), 'ms')
      add(`${name} p90`, quantile(timed, 0.9), 'ms')
    }
    const watch = () => b.watch(clock.ahead)
    const settle = () => pause(1_000 + 2 * link.rttMs)
    add('rtt', clock.rttMs, 'ms')

    // Before anything large went over the link: its connections are new.
    await watch()
    await a.messages(to, MESSAGE_BYTES, pace.messages, 25)
    await settle()
    timing('64 KiB message', await b.arrivals())

    await watch()
    const bulkMs = pace.bulkSeconds * 1000
    await a.bulk(to, bulkMs)
    const { bulk } = await b.arrivals()
    const ramp = Math.min(RAMP_MS, bulkMs / 2)
    const steady = mbitOf(bulk, ramp, bulkMs)
    add(`bulk, first ${ramp / 1000} s`, mbitOf(bulk, 0, ramp), 'Mbit/s')
    add('bulk', steady, 'Mbit/s')
    if (link.mbit !== null) add('bulk of the line', (100 * steady) / link.mbit, '%')
    await settle()
    await settle()

    await watch()
    const flowing = a.bulk(to, bulkMs)
    await pause(bulkMs / 4)
    await a.messages(to, MESSAGE_BYTES, Math.floor(pace.messages / 2), 25)
    await flowing
    await settle()
    timing('64 KiB message under bulk', await b.arrivals())
    return figures
  }
}

async function until(ask: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + OPEN_MS
  while (!(await ask())) {
    if (performance.now() > deadline) throw new Error('The link did not open in time.')
    await pause(100)
  }
}
