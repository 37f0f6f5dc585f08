/** Owns a program for hosts of the box: it answers datagrams, asks for answers and floods, so that the box itself is measured. */
import { createSocket, type RemoteInfo } from 'node:dgram'
import { setTimeout as pause } from 'node:timers/promises'

/** Prints one JSON line. */
const say = (value: unknown) => process.stdout.write(`${JSON.stringify(value)}\n`)
const [role, ...args] = process.argv.slice(2)
const socket = createSocket('udp4')
const bind = (port: number) => new Promise<void>((resolve) => socket.bind(port, resolve))
const send = (bytes: Uint8Array, port: number, address: string) =>
  new Promise<void>((resolve) => socket.send(bytes, port, address, () => resolve()))

/** Answers each datagram with the address it came from, as a STUN server does; floods, which begin with 0, are counted. */
async function echo(ports: number[]): Promise<void> {
  let bytes = 0
  let packets = 0
  let first = 0
  let last = 0
  let opening = 0
  const heard =
    (from: typeof socket) =>
    (data: Buffer, { address, port }: RemoteInfo) => {
      if (data[0] !== 0)
        return void from.send(JSON.stringify({ address, port, echoed: data.toString() }), port, address)
      if (data[1] === 1) {
        if (packets > 0) say({ packets, mbit: ((bytes - opening) * 8) / 1000 / (last - first) })
        packets = bytes = 0
        return
      }
      last = performance.now()
      // The first packet opens the span and is not in it.
      if (packets === 0) [first, opening] = [last, data.byteLength + 28]
      packets += 1
      bytes += data.byteLength + 28
    }
  for (const port of ports) {
    const one = createSocket('udp4')
    one.on('message', heard(one))
    await new Promise<void>((resolve) => one.bind(port, resolve))
  }
  say({ listening: true })
}

/** One datagram to each port in turn, `count` times; says the round trips, null where no answer came within a second. */
async function ask(address: string, ports: number[], count: number): Promise<void> {
  const seen = new Map<string, (from: { address: string; port: number }) => void>()
  socket.on('message', (data) => {
    const { echoed, ...from } = JSON.parse(data.toString()) as { address: string; port: number; echoed: string }
    seen.get(echoed)?.(from)
  })
  await bind(0)
  const answers: ({ ms: number; address: string; port: number } | null)[] = []
  for (let i = 0; i < count; i++) {
    for (const port of ports) {
      const id = `${i}/${port}`
      const start = performance.now()
      const answer = new Promise<{ address: string; port: number }>((resolve) => seen.set(id, resolve))
      await send(Buffer.from(id), port, address)
      const from = await Promise.race([answer, pause(1000, null)])
      answers.push(from && { ms: performance.now() - start, ...from })
    }
  }
  say(answers)
  process.exit(0)
}

/** `count` packets of 1,228 bytes at `mbit`, then word that it is over. */
async function flood(address: string, port: number, count: number, mbit: number): Promise<void> {
  await bind(0)
  const bytes = new Uint8Array(1200)
  const gapMs = (1228 * 8) / 1000 / mbit
  const start = performance.now()
  for (let i = 0; i < count; i++) {
    while (performance.now() - start < i * gapMs) await pause(1)
    await send(bytes, port, address)
  }
  await pause(500)
  bytes[1] = 1
  for (let i = 0; i < 5; i++) await send(bytes, port, address)
  process.exit(0)
}

const numbers = (text = '') => text.split(',').map(Number)
if (role === 'echo') await echo(numbers(args[0]))
if (role === 'ask') await ask(args[0]!, numbers(args[1]), Number(args[2]))
if (role === 'flood') await flood(args[0]!, Number(args[1]), Number(args[2]), Number(args[3]))
