/** Owns what the box is measured by: round trips, rate, loss and the ports that NATs show to others, as datagrams see them. */
import { once } from 'node:events'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { openBox } from '../box/box.ts'
import { homeLine } from '../box/shape.ts'

const probe = path.join(import.meta.dirname, '..', 'box', 'probe.ts')
const PACKETS = 2500
const LOSS = 0.05

export type Answer = { ms: number; address: string; port: number } | null

export interface Exactness {
  /** By the home's NAT: what two ports of one host in the open answered, in turn. */
  answers: Record<string, Answer[]>
  addresses: Record<string, string>
  ipv6: boolean
  flood: { sent: number; arrived: number; dropped: number; lost: number; mbit: number }
  lateMs: number
}

const rtt = homeLine(50)
const box = await openBox([
  { name: 'open', nat: 'open', line: rtt, ipv6: true },
  { name: 'cone', nat: 'cone', line: rtt, ipv6: true },
  { name: 'symmetric', nat: 'symmetric', line: rtt },
  { name: 'blocked', nat: 'blocked', line: rtt },
])
const echo = box.host('open').spawn(process.execPath, [probe, 'echo', '7000,7001'], { stdio: ['ignore', 'pipe', 2] })
const said = createInterface({ input: echo.stdout! })[Symbol.asyncIterator]()
await said.next()
const target = box.host('open').address

const answers: Record<string, Answer[]> = {}
for (const name of ['cone', 'symmetric', 'blocked']) {
  const args = [probe, 'ask', target, '7000,7001', name === 'blocked' ? '1' : '4']
  const asking = box.host(name).spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 2] })
  const text = await createInterface({ input: asking.stdout! })[Symbol.asyncIterator]().next()
  answers[name] = JSON.parse(text.value as string) as Answer[]
}

const connects = `require('net').connect(9, '2001:db8::2').on('error', (e) => process.exit(e.code === 'ECONNREFUSED' ? 0 : 1))`
const six = box.host('cone').spawn(process.execPath, ['-e', connects], { stdio: ['ignore', 'ignore', 2] })
const [refused] = (await once(six, 'exit')) as [number]

// Half as much again as the line takes.
await box.host('cone').shape(homeLine(50, 20, { loss: LOSS }))
await box.host('open').shape(homeLine(50))
const flooding = box.host('cone').spawn(process.execPath, [probe, 'flood', target, '7000', `${PACKETS}`, '30'])
await once(flooding, 'exit')
const { packets, mbit } = JSON.parse((await said.next()).value as string) as { packets: number; mbit: number }
const { lines, late } = await box.counters()
const { dropped, lost } = lines[box.host('cone').device]!.up
const result: Exactness = {
  answers,
  addresses: Object.fromEntries([...box.hosts.values()].map(({ name, address }) => [name, address])),
  ipv6: refused === 0,
  flood: { sent: PACKETS, arrived: packets, dropped, lost, mbit },
  lateMs: late.mostMs,
}
console.log(JSON.stringify(result))
process.exit(0)
