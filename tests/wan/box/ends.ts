/** Owns the two kinds of ends that links are tried between: a page in a Chromium, and a process with native WebRTC. */
import path from 'node:path'
import { createInterface } from 'node:readline'
import type { Page } from '@playwright/test'
import type { PeerIdentity } from '../../../src/net/linkMessages.ts'
import type { NetworkEnd } from '../../bench/network/end.ts'
import type { Host } from './box.ts'
import { launchBrowser } from './browser.ts'

type Calls = Omit<NetworkEnd, 'begin'>
/** The calls of an end from here. */
export type RemoteEnd = {
  [Name in keyof Calls]: (...args: Parameters<Calls[Name]>) => Promise<Awaited<ReturnType<Calls[Name]>>>
} & { begin(identity: PeerIdentity): Promise<void>; close(): Promise<void> }

type Invoke = (name: string, args: unknown[]) => Promise<unknown>

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
  const invoke: Invoke = (name, args) =>
    page.evaluate(
      ([call, given]) => {
        if (call === 'beginEnd') return window.beginEnd(given[0] as PeerIdentity)
        const remoteEnd = window.measuredEnd as unknown as Record<string, (...all: unknown[]) => Promise<unknown>>
        return remoteEnd[call]!(...given)
      },
      [name, args] as const,
    )
  return remote(invoke, () => browser.close())
}

export async function agentEnd(host: Host, origin: string): Promise<RemoteEnd> {
  const program = path.join(import.meta.dirname, '..', '..', 'bench', 'network', 'agentEnd.ts')
  const child = host.spawn(process.execPath, [program, origin], { stdio: ['pipe', 'pipe', 'inherit'] })
  const waiting = new Map<number, (value: unknown) => void>()
  let calls = 0
  child.on('exit', (code) => {
    if (code) throw new Error(`The agent's end on ${host.name} ended with ${code}.`)
  })
  createInterface({ input: child.stdout! }).on('line', (line) => {
    const { id, value } = JSON.parse(line) as { id: number; value: unknown }
    waiting.get(id)?.(value)
    waiting.delete(id)
  })
  const invoke: Invoke = (call, args) =>
    new Promise((resolve) => {
      const id = calls++
      waiting.set(id, resolve)
      child.stdin!.write(`${JSON.stringify({ id, call, args })}\n`)
    })
  const close = () => {
    child.stdin!.end()
    return Promise.resolve()
  }
  return remote(invoke, close)
}
