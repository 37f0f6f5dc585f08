/** Owns what is measured over one link between two browsers in the box: how full it gets, and how long a message takes. */
import type { Browser, Page } from '@playwright/test'
import { createTokens } from '../../../server/control/tokens.ts'
import { attachBroker } from '../../../server/signalling/broker.ts'
import { STRANDS, STRIPING_RTT_MS } from '../../../src/net/limits.ts'
import { servePage } from '../../e2e/servePage.ts'
import { openBox, type Box, type Host } from '../../wan/box/box.ts'
import { launchBrowser } from '../../wan/box/browser.ts'
import type { MeasuredLink } from './links.ts'
import type { Arrivals } from './end.ts'

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

const quantile = (values: readonly number[], q: number) =>
  values.length ? [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(q * values.length))]! : NaN

const mbitOf = (bulk: Arrivals['bulk'], from: number, to: number) =>
  (bulk.filter(([at]) => at >= from && at < to).reduce((sum, [, bytes]) => sum + bytes, 0) * 8) / 1000 / (to - from)

export class LinkBench {
  readonly #box: Box
  readonly #hosts: readonly [Host, Host]
  readonly #close: (() => Promise<unknown>)[]
  readonly #origin: string
  readonly #tokens: ReturnType<typeof createTokens>
  readonly #browsers: readonly Browser[]
  #pair = 0

  private constructor(
    box: Box,
    origin: string,
    tokens: ReturnType<typeof createTokens>,
    browsers: readonly Browser[],
    close: (() => Promise<unknown>)[],
  ) {
    this.#box = box
    this.#hosts = [box.host('a'), box.host('b')]
    this.#origin = origin
    this.#tokens = tokens
    this.#browsers = browsers
    this.#close = close
  }

  static async open(): Promise<LinkBench> {
    const box = await openBox([
      { name: 'a', nat: 'open' },
      { name: 'b', nat: 'open' },
    ])
    const served = await servePage(import.meta.dirname, box.address)
    const tokens = createTokens(new Uint8Array(32).fill(7))
    const broker = attachBroker(served.server, tokens)
    const browsers = await Promise.all(['a', 'b'].map((name) => launchBrowser(box.host(name), served.origin)))
    return new LinkBench(box, served.origin, tokens, browsers, [
      ...browsers.map((browser) => () => browser.close()),
      () => Promise.resolve(broker.close()),
      () => served.close(),
      () => box.close(),
    ])
  }

  async close(): Promise<void> {
    for (const close of this.#close) await close()
  }

  async measure(link: MeasuredLink, pace: Pace): Promise<Figures> {
    await this.#hosts[0].shape(link.from)
    await this.#hosts[1].shape(link.to)
    const id = this.#pair++
    const [left, right] = [`a${id}`, `b${id}`]
    const [a, b] = await Promise.all([this.#join(0, left), this.#join(1, right)])
    try {
      await a.evaluate((to) => window.measuredEnd.setPartners([to]), right)
      await b.evaluate((to) => window.measuredEnd.setPartners([to]), left)
      await a.waitForFunction((to) => window.measuredEnd.isOpen(to), right)
      await this.#box.counters()
      const measured = await this.#figures(link, a, b, left, right, pace)
      const { late, lines } = await this.#box.counters()
      if (process.env.DEBUG) console.error(JSON.stringify(lines), late)
      return { measured, routerLateMs: late.mostMs }
    } finally {
      await Promise.all([a.context().close(), b.context().close()])
    }
  }

  async #join(end: 0 | 1, nodeId: string): Promise<Page> {
    // Granted, a page offers its address instead of an mDNS name, which the box could not resolve.
    const context = await this.#browsers[end]!.newContext({ permissions: ['camera', 'microphone'] })
    const page = await context.newPage()
    await page.goto(this.#origin)
    const identity = { nodeId, token: this.#tokens.issue(nodeId, 'device'), iceServers: [] }
    await page.evaluate((given) => window.beginEnd(given), identity)
    return page
  }

  async #figures(link: MeasuredLink, a: Page, b: Page, left: string, right: string, pace: Pace) {
    const figures: Measurement[] = []
    const add = (metric: string, value: number, unit: string) =>
      figures.push({ link: link.name, metric, value: Number(value.toFixed(2)), unit })

    const clock = await b.evaluate((to) => window.measuredEnd.measureClock(to), left)
    add('rtt', clock.rttMs, 'ms')
    const watch = () => b.evaluate((ahead) => window.measuredEnd.watch(ahead), clock.ahead)
    const arrivals = () => b.evaluate(() => window.measuredEnd.arrivals())
    const send = (count: number) =>
      a.evaluate(([to, bytes, n]) => window.measuredEnd.messages(to, bytes, n, 25), [
        right,
        MESSAGE_BYTES,
        count,
      ] as const)
    const timing = (name: string, { timed }: Arrivals) => {
      add(`${name} p50`, quantile(timed, 0.5), 'ms')
      add(`${name} p90`, quantile(timed, 0.9), 'ms')
    }
    const settle = () => a.waitForTimeout(1_000 + 2 * link.rttMs)

    await a.waitForFunction(([to, count]) => window.measuredEnd.connectionsTo(to).then((n) => n >= count), [
      right,
      link.rttMs >= STRIPING_RTT_MS ? STRANDS : 1,
    ] as const)
    // Before anything else went over the link: its connections are new.
    await watch()
    await send(pace.messages)
    await settle()
    timing('64 KiB message', await arrivals())

    await watch()
    const bulkMs = pace.bulkSeconds * 1000
    await a.evaluate(([to, ms]) => window.measuredEnd.bulk(to, ms), [right, bulkMs] as const)
    const { bulk } = await arrivals()
    if (process.env.DEBUG)
      console.error(
        Array.from({ length: bulkMs / 500 }, (_, i) => mbitOf(bulk, i * 500, i * 500 + 500).toFixed(0)).join(' '),
      )
    const steady = mbitOf(bulk, Math.min(RAMP_MS, bulkMs / 2), bulkMs)
    add('bulk, first 3 s', mbitOf(bulk, 0, Math.min(RAMP_MS, bulkMs / 2)), 'Mbit/s')
    add('bulk', steady, 'Mbit/s')
    if (link.mbit !== null) add('bulk of the line', (100 * steady) / link.mbit, '%')
    await settle()
    await settle()

    await watch()
    const flowing = a.evaluate(([to, ms]) => window.measuredEnd.bulk(to, ms), [right, bulkMs] as const)
    await a.waitForTimeout(bulkMs / 4)
    await send(Math.floor(pace.messages / 2))
    await flowing
    await settle()
    timing('64 KiB message under bulk', await arrivals())
    return figures
  }
}
