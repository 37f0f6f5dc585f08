/** Owns the agents of the end-to-end specs: real processes, a state folder each, and what they printed. */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { dawnEnvironment } from '../../server/cli/browser.mjs'

const root = path.resolve(import.meta.dirname, '..', '..')

/** The agent itself, and the way `npm run agent` takes to it. */
export const agentCommand = [path.join(root, 'server', 'cli', 'agent.mjs')]
export const npmRunAgent = [path.join(root, 'server', 'cli', 'bootstrap.mjs'), 'agent']
export const losingAgent = [path.join(import.meta.dirname, 'agent', 'losing.mjs')]
export const lyingAgent = [path.join(import.meta.dirname, 'agent', 'lying.mjs')]

export interface AgentProcess {
  readonly child: ChildProcess
  /** Everything on stdout and stderr so far. */
  output(): string
  /** What it printed on stdout: with `--json` its own lines alone, whatever a GPU driver writes on stderr. */
  stdout(): string
  /** Resolves when the process is gone and its output complete. */
  readonly exit: Promise<{ code: number | null; signal: NodeJS.Signals | null; output: string }>
}

const running = new Set<AgentProcess>()

/** @param command what Node runs; the arguments follow it */
export function startAgent(args: string[], command: string[] = agentCommand): AgentProcess {
  const state = mkdtempSync(path.join(os.tmpdir(), 'skein-agent-spec-'))
  const child = spawn(process.execPath, [...command, ...args], {
    env: { ...process.env, ...dawnEnvironment(), XDG_STATE_HOME: state },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  let output = ''
  let stdout = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => (output += text))
  const agent: AgentProcess = {
    child,
    output: () => output,
    stdout: () => stdout,
    exit: new Promise((resolve) =>
      child.on('close', (code, signal) => {
        running.delete(agent)
        rmSync(state, { recursive: true, force: true })
        resolve({ code, signal, output })
      }),
    ),
  }
  running.add(agent)
  return agent
}

/** Ends whatever a failed test left behind. */
export async function endAgents(): Promise<void> {
  const left = [...running]
  for (const agent of left) agent.child.kill('SIGKILL')
  await Promise.all(left.map((agent) => agent.exit))
}
