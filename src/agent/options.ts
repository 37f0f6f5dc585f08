/** Owns what `npm run agent` was asked to do: its flags, and what none of them may be. */
import { parseArgs } from 'node:util'
import { fail } from '../protocol/errors.ts'

export const AGENT_USAGE = `npm run agent -- --server URL [options]
  --server URL      address of the Skein server, such as https://skein.example
  --memory GiB      what to offer for weights, gradients and activations (half the machine's, at most 4)
  --adapter NAME    part of the name of the GPU to use, or its number in the list that a wrong name brings up
  --allow-software  work even where no GPU is found, slowly
  --state DIR       where the device's id is kept; one agent a folder (a folder of the user's by default)
  --agree ID        agree to be bound to the wallet of that challenge, which /earnings shows, and end
  --json            log lines as JSON
  --help            this text`

export interface AgentOptions {
  /** Without a slash at its end. */
  readonly origin: string
  readonly allowSoftware: boolean
  /** Null: let the machine's memory decide. */
  readonly memoryBytes: number | null
  readonly adapter: string | null
  readonly state: string | null
  /** A challenge to agree with, in place of working. */
  readonly agree: string | null
  readonly json: boolean
}

const GIB = 1024 ** 3
const REMEDY = 'Run `npm run agent -- --help` for the options.'

/**
 * @returns null when only the usage was asked for
 * @throws SkeinError `agent.option`, `agent.server`
 */
export function agentOptions(args: readonly string[]): AgentOptions | null {
  const values = parse(args)
  if (values.help) return null
  return {
    origin: originOf(values.server),
    allowSoftware: values['allow-software'] ?? false,
    memoryBytes: values.memory === undefined ? null : bytesOf(values.memory),
    adapter: values.adapter ?? null,
    state: values.state ?? null,
    agree: values.agree === undefined ? null : challengeOf(values.agree),
    json: values.json ?? false,
  }
}

function parse(args: readonly string[]) {
  try {
    const text = { type: 'string' } as const
    const flag = { type: 'boolean' } as const
    return parseArgs({
      args: [...args],
      strict: true,
      allowPositionals: false,
      options: {
        server: text,
        memory: text,
        adapter: text,
        state: text,
        agree: text,
        'allow-software': flag,
        json: flag,
        help: { ...flag, short: 'h' },
      },
    }).values
  } catch (caught) {
    return fail('agent.option', caught instanceof Error ? caught.message : String(caught), REMEDY)
  }
}

function originOf(text: string | undefined): string {
  if (text === undefined) return fail('agent.server', 'The agent was not told which server to work for.', REMEDY)
  const url = URL.parse(text)
  const plain = url && url.pathname === '/' && !url.search && !url.hash && !url.username && !url.password
  if (plain && (url.protocol === 'http:' || url.protocol === 'https:')) return url.origin
  return fail(
    'agent.server',
    // What was given may hold a password.
    url?.password ? 'The server’s address must not hold a password.' : `“${text}” is no address of a Skein server.`,
    'Give it as http:// or https:// with a host, and a port where it needs one: --server https://skein.example',
  )
}

function challengeOf(text: string): string {
  if (/^[0-9a-f]{32}$/.test(text)) return text
  return fail('agent.option', '--agree takes the 32 digits of a challenge, as the page shows them.', REMEDY)
}

function bytesOf(text: string): number {
  const gib = Number(text)
  if (/^\d+(\.\d+)?$/.test(text) && gib > 0 && gib <= 4096) return Math.floor(gib * GIB)
  return fail('agent.option', `--memory takes a number of GiB above 0, such as 16, not “${text}”.`, REMEDY)
}
