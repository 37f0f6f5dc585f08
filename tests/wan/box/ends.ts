/** Owns the two kinds of ends that links are tried between: a page in a Chromium, and a process with native WebRTC. */
import { once } from 'node:events'
import path from 'node:path'
import { createInterface } from 'node:readline'
import type { Page } from '@playwright/test'
import type { PeerIdentity } from '../../../src/net/linkMessages.ts'
import type { NetworkEnd } from '../../bench/network/end.ts'
import type { Host } from './box.ts'
import { launchBrowser } from './browser.ts'
import { Calls } from './calls.ts'

type EndCalls = Omit<NetworkEnd, 'begin'>
/** The calls of an end from here. */
export type RemoteEnd = {
  [Name in keyof EndCalls]: (...args: Parameters<EndCalls[Name]>) => Promise<Awaited<ReturnType<EndCalls[Name]>>>
} & { begin(identity: PeerIdentity): Promise<void>; close(): Promise<void> }

type Invoke = (name: string, args: unknown[]) => Promise<unknown>

/** Longer than a frame waits for its link (`ROUTE_DEADLINE_MS`), on a machine that has other things to do. */
const CALL_MS = 30_000
/** From the end of its input to the end of a process. */
const CLOSE_MS = 5_000

/** What a call that itself takes time is given on top. */
function lengthMs(name: string, args: unknown[]): number {
  if (name === 'bulk') return Number(args[1])
  if (name === 'messages') return Number(args[2]) * Number(args[3])
  return 0
}

function remote(invoke: Invoke, close: () => Promise<void>): RemoteEnd {
  return new Proxy({} as RemoteEnd, {
    get(_, name: string) {
      // An awaited end is no promise.
      if (name === 'then') return undefined
      if (name === 'close') return close
      return (...args: unknown[]) => invoke(name === 'begin' ? 'beginEnd' : name, args)
    },
  })
}

export async function browserEnd(host: Host, origin: string): Promise<RemoteEnd> {
  const browser = await launchBrowser(host, origin)
  const page: Page = await browser.newPage()
  await page.goto(origin)
  const calls = new Calls(`The browser's end on ${host.name}`)
  page.on('crash', () => calls.end('its page has crashed'))
  browser.on('disconnected', () => calls.end('it has ended'))
  const evaluate: Invoke = (name, args) =>
    page.evaluate(
      ([call, given]) => {
        if (call === 'beginEnd') return window.beginEnd(given[0] as PeerIdentity)
        const remoteEnd = window.measuredEnd as unknown as Record<string, (...all: unknown[]) => Promise<unknown>>
        return remoteEnd[call]!(...given)
      },
      [name, args] as const,
    )
  const invoke: Invoke = (name, args) =>
    calls.call(name, CALL_MS + lengthMs(name, args), (id) => {
      evaluate(name, args).then(
        (value) => calls.answer(id, value),
        (caught: unknown) => calls.fail(id, String(caught)),
      )
    })
  return remote(invoke, () => browser.close())
}

export async function agentEnd(host: Host, origin: string): Promise<RemoteEnd> {
  const program = path.join(import.meta.dirname, '..', '..', 'bench', 'network', 'agentEnd.ts')
  const child = host.spawn(process.execPath, [program, origin], { stdio: ['pipe', 'pipe', 'inherit'] })
  const calls = new Calls(`The agent's end on ${host.name}`)
  // What it said last is still read: so not at `exit`.
  child.on('close', (code, signal) => calls.end(`it has ended with ${signal ?? code}`))
  child.on('error', (error) => calls.end(error.message))
  // Whoever does not read any more ends, which is said above.
  child.stdin!.on('error', () => {})
  createInterface({ input: child.stdout! }).on('line', (line) => {
    const { id, value, error } = JSON.parse(line) as { id: number; value: unknown; error?: string }
    if (error === undefined) calls.answer(id, value)
    else calls.fail(id, error)
  })
  const invoke: Invoke = (call, args) =>
    calls.call(call, CALL_MS + lengthMs(call, args), (id) => {
      child.stdin!.write(`${JSON.stringify({ id, call, args })}\n`)
    })
  const close = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    child.stdin!.end()
    const timer = setTimeout(() => child.kill('SIGKILL'), CLOSE_MS)
    await gone
    clearTimeout(timer)
  }
  return remote(invoke, close)
}
