/** Owns a wide-area network in one machine: hosts in namespaces, NATs before them, a router with delay, rate and loss. */
import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, writeFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { natRules, partRules, type Nat } from './nat.ts'
import { routerShape, type LineShape } from './shape.ts'

export interface HostPlan {
  name: string
  nat: Nat
  line?: LineShape
  /** Has an IPv6 address of its own too, behind no NAT. */
  ipv6?: boolean
}

export interface Host {
  readonly name: string
  readonly nat: Nat
  /** Its address in the core: its own, or its NAT's. */
  readonly address: string
  /** The name of its line among the counters. */
  readonly device: string
  /** Runs a program there. */
  spawn(command: string, args: readonly string[], options?: SpawnOptions): ChildProcess
  /** A file that starts `command` there, for what takes the path of a program and nothing else. */
  launcher(command: string): string
  shape(line: LineShape): Promise<void>
  /** Its home gets another public address, as by a new contract or by another network: whatever its NAT had mapped is void. */
  move(): Promise<void>
  /**
   * Its home's router drops the datagrams to this address; where it is to let some through again, then not those from a port that
   * had tried before: sockets made since then alone get through.
   */
  part(address: string, from: 'everybody' | 'who tried'): Promise<void>
}

interface Counters {
  packets: number
  bytes: number
  /** For want of room in the queue. */
  dropped: number
  lost: number
}

export interface BoxCounters {
  lines: Record<string, { up: Counters; down: Counters }>
  /** How much later than due packets left the router since the last question: a starved machine cannot be believed. */
  late: { meanMs: number; mostMs: number }
}

export interface Box {
  /** Where this process, and whatever it starts itself, is reached from every host. */
  readonly address: string
  readonly address6: string
  readonly hosts: ReadonlyMap<string, Host>
  host(name: string): Host
  counters(): Promise<BoxCounters>
  close(): Promise<void>
}

const ADDRESS = (n: number) => `203.0.113.${n}`
const MOVED = (n: number) => `203.0.113.${100 + n}`
const ADDRESS6 = (n: number) => `2001:db8::${n}`
const deviceOf = (n: number) => `t${n}`
/** This process: unconstrained, at no distance from the core. */
const OWN = 1

async function run(command: string, args: readonly string[], input = ''): Promise<void> {
  const child = spawn(command, args, { stdio: [input ? 'pipe' : 'ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr!.on('data', (data) => (said += String(data)))
  child.stdin?.end(input)
  const [code] = (await once(child, 'exit')) as [number | null]
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}: ${said.trim()}`)
}

const ip = (line: string) => run('ip', line.split(' '))
const inside = (namespace: string, line: string, input = '') =>
  run('ip', ['netns', 'exec', namespace, ...line.split(' ')], input)

/** Makes the device by which `namespace` reaches the core and moves it there; null: stays in this process's. */
async function connect(namespace: string | null, device: string, n: number, ipv6: boolean): Promise<void> {
  if (namespace) await ip(`link set ${device} netns ${namespace}`)
  const there = namespace ? (line: string) => inside(namespace, `ip ${line}`) : ip
  await there(`link set ${device} txqueuelen 10000`)
  await there(`addr add ${ADDRESS(n)}/32 dev ${device}`)
  if (ipv6) await there(`addr add ${ADDRESS6(n)}/128 dev ${device} nodad`)
  await there(`link set ${device} up`)
  await there(`route add default dev ${device}`)
  if (ipv6) await there(`-6 route add default dev ${device}`)
}

/** A home: one host with a private address, and a router that masquerades it. */
async function behindNat(host: string, gateway: string, { nat, ipv6 }: HostPlan, n: number): Promise<void> {
  if (nat === 'open') return
  await ip(`netns add ${gateway}`)
  await ip(`link add name eth0 netns ${host} type veth peer name lan0 netns ${gateway}`)
  await inside(gateway, `ip addr add 192.168.${n}.1/24 dev lan0`)
  await inside(gateway, 'ip link set lan0 up')
  await inside(gateway, 'sysctl -qw net.ipv4.ip_forward=1')
  await inside(gateway, 'nft -f -', natRules(nat, deviceOf(n)))
  await inside(host, `ip addr add 192.168.${n}.2/24 dev eth0`)
  await inside(host, 'ip link set eth0 up')
  await inside(host, `ip route add default via 192.168.${n}.1`)
  if (!ipv6) return
  // As providers do it: the home has public addresses, and its router lets in what answers.
  await inside(gateway, 'sysctl -qw net.ipv6.conf.all.forwarding=1')
  await inside(gateway, 'ip addr add fe80::1/64 dev lan0 nodad')
  await inside(gateway, `ip -6 route add ${ADDRESS6(n)}/128 dev lan0`)
  await inside(host, `ip addr add ${ADDRESS6(n)}/128 dev eth0 nodad`)
  await inside(host, 'ip -6 route add default via fe80::1 dev eth0')
}

/**
 * Builds it in this process's namespaces, which are to be a box's (see `enter.ts`), and which end with it.
 * @throws Error where a command fails, with what it said
 */
export async function openBox(plans: readonly HostPlan[], { seed = 1 } = {}): Promise<Box> {
  const router = spawn('python3', [path.join(import.meta.dirname, 'router.py')], { stdio: ['pipe', 'pipe', 'inherit'] })
  const answers = createInterface({ input: router.stdout })
  const waiting: ((line: string) => void)[] = []
  answers.on('line', (line) => waiting.shift()?.(line))
  const ask = (command: object) =>
    new Promise<unknown>((resolve) => {
      waiting.push((line) => resolve(JSON.parse(line)))
      router.stdin.write(`${JSON.stringify(command)}\n`)
    })
  const shapes = (line: LineShape = {}) => ({ up: routerShape(line.up), down: routerShape(line.down) })
  const folder = mkdtempSync(path.join(tmpdir(), 'skein-wan-'))
  const hosts = new Map<string, Host>()

  const line = async (name: string, n: number, shape?: LineShape) => {
    const addresses = [ADDRESS(n), MOVED(n), ADDRESS6(n)]
    await ask({ do: 'line', name, addresses, seed: seed * 1000 + n, ...shapes(shape) })
  }
  await line('core', OWN)
  await connect(null, 'core', OWN, true)

  for (const [index, plan] of plans.entries()) {
    const n = index + 2
    const { name, nat, ipv6 = false } = plan
    const device = deviceOf(n)
    const gateway = nat === 'open' ? name : `${name}-nat`
    await ip(`netns add ${name}`)
    await inside(name, 'ip link set lo up')
    await behindNat(name, gateway, plan, n)
    await line(device, n, plan.line)
    await connect(gateway, device, n, ipv6 && nat === 'open')
    if (ipv6 && nat !== 'open') await inside(gateway, `ip -6 route add default dev ${device}`)
    hosts.set(name, {
      name,
      nat,
      address: ADDRESS(n),
      device,
      spawn: (command, args, options = {}) => spawn('ip', ['netns', 'exec', name, command, ...args], options),
      launcher(command) {
        const file = path.join(folder, `${name}-${path.basename(command)}`)
        writeFileSync(file, `#!/bin/sh\nexec ip netns exec ${name} ${command} "$@"\n`, { mode: 0o755 })
        return file
      },
      async shape(shape) {
        await ask({ do: 'shape', name: device, ...shapes(shape) })
      },
      async move() {
        await inside(gateway, `ip addr add ${MOVED(n)}/32 dev ${device}`)
        await inside(gateway, `ip addr del ${ADDRESS(n)}/32 dev ${device}`)
        await inside(gateway, `ip route replace default dev ${device}`)
      },
      part: (address, from) => inside(gateway, 'nft -f -', partRules(address, from)),
    })
  }

  return {
    address: ADDRESS(OWN),
    address6: ADDRESS6(OWN),
    hosts,
    host(name) {
      const host = hosts.get(name)
      if (!host) throw new Error(`The box has no host ${name}.`)
      return host
    },
    counters: async () => (await ask({ do: 'counters' })) as BoxCounters,
    async close() {
      router.stdin.end()
      await once(router, 'exit')
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
