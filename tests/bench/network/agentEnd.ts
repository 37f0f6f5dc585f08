/** Owns one end of a measured link in a process without a browser: calls come as JSON lines, and their results go back so. */
import { createInterface } from 'node:readline'
import '../../../server/cli/pageImports.mjs'
import { AGENT_SESSION, installWebRtc } from '../../../src/agent/webrtc.ts'
import type { NetworkEnd } from './end.ts'

installWebRtc()
const { end } = await import('./end.ts')
const { PeerSession } = await import('../../../src/net/peerSession.ts')

export interface Call {
  /** Comes back with the result. */
  id: number
  call: keyof NetworkEnd | 'beginEnd'
  args: unknown[]
}

const [origin] = process.argv.slice(2)
const beginEnd = (identity: Parameters<NetworkEnd['begin']>[1]) => {
  const { port1, port2 } = new MessageChannel()
  new PeerSession({ port: port1, origin: origin!, ...AGENT_SESSION })
  end.begin(port2, identity)
}

const lines = createInterface({ input: process.stdin })
lines.on('line', (line) => {
  const { id, call, args } = JSON.parse(line) as Call
  const run = (call === 'beginEnd' ? beginEnd : end[call]) as (...given: unknown[]) => unknown
  const answer = (result: object) => void process.stdout.write(`${JSON.stringify({ id, ...result })}\n`)
  new Promise((resolve) => resolve(run(...args))).then(
    (value) => answer({ value: value ?? null }),
    (caught: unknown) => answer({ error: caught instanceof Error ? caught.message : String(caught) }),
  )
})
lines.on('close', () => process.exit(0))
