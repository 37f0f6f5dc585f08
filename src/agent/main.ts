/** Owns the agent as a process: its arguments, its signals, its exit code, and what it prints. */
import { fleetSchema } from '../protocol/api.ts'
import { fail, SkeinError, toErrorBody } from '../protocol/errors.ts'
import { gpuSource } from './adapter.ts'
import { agree } from './agree.ts'
import { runAgent, type Agent, type AgentSurroundings } from './agent.ts'
import { agentChunks } from './chunks.ts'
import { AGENT_USAGE, agentOptions, type AgentOptions } from './options.ts'
import { formatLine } from './report.ts'
import { defaultStateFolder, openState } from './state.ts'
import { agentTuning } from './tuning.ts'
import { endWebRtc, installWebRtc } from './webrtc.ts'

const ASK_MS = 5000
/** From the first signal to the end, whatever is still under way; Dawn may take a second more to let go. */
const STOP_MS = 2500
/** A terminal, npm and a service manager may each pass the same signal on. */
const ECHO_MS = 500

const FAILED = 1
const MISUSED = 2
const INTERRUPTED = 130

/**
 * Refuses what answers and is no Skein server; one that does not answer may do so later.
 * @throws SkeinError `agent.not_skein`
 */
async function askServer(origin: string): Promise<void> {
  let response: Response
  let body: unknown
  try {
    response = await fetch(`${origin}/api/v1/fleet`, { signal: AbortSignal.timeout(ASK_MS) })
    body = await response.json().catch(() => null)
  } catch {
    return
  }
  const arrived = new URL(response.url).origin
  if (arrived !== origin) {
    fail('agent.not_skein', `${origin} sends its visitors on to ${arrived}.`, `Start with --server ${arrived}`)
  }
  // Too many requests, or a proxy without its server: it may be one.
  if (response.status === 429 || response.status >= 500 || fleetSchema.safeParse(body).success) return
  fail(
    'agent.not_skein',
    `${origin} answers, yet not as a Skein server would.`,
    'Give the address at which a browser shows the page with the button “Start contributing”.',
  )
}

async function start(options: AgentOptions, source: typeof gpuSource, say: AgentSurroundings['say']): Promise<Agent> {
  const folder = options.state ?? defaultStateFolder()
  const state = openState(folder)
  await askServer(options.origin)
  installWebRtc()
  const kept = { state, tuning: agentTuning(folder), chunks: agentChunks(folder) }
  return runAgent(options, { ...kept, acquireGpu: await source(options.adapter), say })
}

/** Stops at the first signal, ends at the second. `running` is null until there is something to stop. */
function obeySignals(running: () => Agent | null): void {
  let stoppedAt: number | null = null
  const stop = () => {
    const now = performance.now()
    if (stoppedAt !== null) {
      if (now - stoppedAt > ECHO_MS) process.exit(INTERRUPTED)
      return
    }
    stoppedAt = now
    const agent = running()
    if (!agent) process.exit(0)
    agent.stop()
    setTimeout(() => process.exit(0), STOP_MS)
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop)
}

/**
 * Runs until it is stopped; resolves with the exit code.
 * @param source where GPUs come from; a parameter for tests that break one
 */
export async function agentMain(args: readonly string[], source = gpuSource): Promise<number> {
  let json = args.includes('--json')
  const print = (text: string) => void process.stdout.write(`${text}\n`)
  try {
    const options = agentOptions(args)
    if (!options) {
      print(AGENT_USAGE)
      return 0
    }
    json = options.json
    if (options.agree !== null) {
      await agree(options.origin, options.state ?? defaultStateFolder(), options.agree, print)
      return 0
    }
    let agent: Agent | null = null
    obeySignals(() => agent)
    // Whoever read the lines is gone: that is no reason to stop.
    process.stdout.on('error', () => {})
    const running = await start(options, source, (line) => print(formatLine(line, new Date(), json)))
    agent = running
    const crash = (caught: unknown) => {
      process.stderr.write(`${caught instanceof Error ? caught.stack : String(caught)}\n`)
      running.crash(toErrorBody(caught))
    }
    process.on('uncaughtException', crash)
    process.on('unhandledRejection', crash)
    await running.ended
    endWebRtc()
    return 0
  } catch (caught) {
    const { code, message, remedy } = toErrorBody(caught)
    if (!(caught instanceof SkeinError) && caught instanceof Error) process.stderr.write(`${caught.stack}\n`)
    if (json) print(JSON.stringify({ time: new Date().toISOString(), event: 'error', code, message, remedy }))
    else process.stderr.write(`${message} [${code}]\n  ${remedy}\n`)
    return code === 'agent.option' || code === 'agent.server' ? MISUSED : FAILED
  }
}
