/** Owns the server's settings: read from the environment, checked, with defaults that suit one machine. */
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import type { iceServerSchema } from '../src/protocol/control.ts'
import { fail } from '../src/protocol/errors.ts'
import { profileNames, type CHAIN_PROFILES } from './chain/profile.ts'
import type { AuditPolicy } from './audits/policy.ts'
import { normalHost } from './identity/audience.ts'
import type { TurnService } from './signalling/iceServers.ts'
import type { RelayLimits } from './signalling/relay.ts'
import { AUDIT_MS } from './orchestrator/timing.ts'

const list = z
  .string()
  .transform((text) => text.split(',').map((part) => part.trim()))
  .transform((parts) => parts.filter((part) => part !== ''))
const flag = z.enum(['0', '1', 'true', 'false']).transform((text) => text === '1' || text === 'true')
const iceUrl = z.string().regex(/^(stun|stuns|turn|turns):\S+$/, 'must begin with stun:, stuns:, turn: or turns:')

const planck = z
  .string()
  .regex(/^\d{1,30}$/, 'must be a whole number of planck')
  .transform(BigInt)

const environmentSchema = z.object({
  SKEIN_HOST: z.string().min(1).max(255).default('127.0.0.1'),
  /** 0 takes any free port. */
  SKEIN_PORT: z.coerce.number().int().min(0).max(65_535).default(8080),
  SKEIN_DATA: z.string().min(1).default('./data'),
  SKEIN_STATIC: z
    .string()
    .min(1)
    .default(fileURLToPath(new URL('../dist', import.meta.url))),
  SKEIN_ADMIN_TOKEN: z.string().min(16, 'must have at least 16 characters').max(300).optional(),
  SKEIN_SECRET: z.string().min(32, 'must have at least 32 characters').max(300).optional(),
  SKEIN_STUN_URLS: list.pipe(z.array(iceUrl).max(8)).default([]),
  SKEIN_TURN_URLS: list.pipe(z.array(iceUrl).max(8)).default([]),
  SKEIN_TURN_USERNAME: z.string().max(300).optional(),
  SKEIN_TURN_CREDENTIAL: z.string().max(300).optional(),
  /** Shared with the TURN server; it is kept in the environment alone. */
  SKEIN_TURN_SECRET: z.string().min(16, 'must have at least 16 characters').max(300).optional(),
  SKEIN_TURN_LIFETIME: z.coerce.number().int().min(60).max(604_800).default(3600),
  /** Megabits a second that the server passes on for pairs that no other way joins, in all; 0: it passes nothing on. */
  SKEIN_RELAY_MBIT: z.coerce.number().min(0).max(100_000).default(20),
  SKEIN_RELAY_PAIR_MBIT: z.coerce.number().min(0.01).max(100_000).default(8),
  /** MiB a day. */
  SKEIN_RELAY_MIB: z.coerce.number().min(1).max(1e9).default(51_200),
  SKEIN_RELAY_PAIR_MIB: z.coerce.number().min(1).max(1e9).default(4096),
  SKEIN_HEARTBEAT_MS: z.coerce.number().int().min(200).max(60_000).default(2000),
  SKEIN_MAX_DATASET_BYTES: z.coerce
    .number()
    .int()
    .min(2048)
    .max(1_073_741_824)
    .default(64 * 1024 * 1024),
  /** Seconds of a ledger epoch where time is the server's. */
  SKEIN_EPOCH: z.coerce.number().int().min(1).max(31_536_000).default(3600),
  /** Finalized blocks of a ledger epoch where a chain is configured. */
  SKEIN_EPOCH_BLOCKS: z.coerce.number().int().min(1).max(10_000_000).default(600),
  SKEIN_RATE_PER_MINUTE: z.coerce.number().int().min(1).max(10_000_000).default(3000),
  /** Believe X-Forwarded-For: only behind a proxy that sets it. */
  SKEIN_TRUST_PROXY: flag.default(false),
  /** Hosts that the server is reached by, with their ports unless default: what is signed for another name is refused. */
  SKEIN_HOSTS: list
    .pipe(
      z.array(z.string().refine((host) => normalHost(host) !== null, 'must be hosts, such as skein.example')).max(32),
    )
    .transform((hosts) => hosts.map((host) => normalHost(host)!))
    .default([]),
  /** Without a chain, which says its own: 42 is any Substrate chain, 0 Polkadot. */
  SKEIN_SS58_PREFIX: z.coerce.number().int().min(0).max(16_383).default(42),
  /** JSON-RPC of a Substrate node; without it nobody is paid. */
  SKEIN_CHAIN_URL: z
    .string()
    .regex(/^wss?:\/\/\S+$/, 'must begin with ws:// or wss://')
    .max(300)
    .optional(),
  /** Which chain that has to be: then one with other properties is refused, and what it does not say of itself is known. */
  SKEIN_CHAIN_PROFILE: z.enum(profileNames).optional(),
  /** Secret of the account that pays; it is kept in the environment alone. */
  SKEIN_PAYOUT_SEED: z.string().max(500).optional(),
  SKEIN_PAYOUT_BATCH: z.coerce.number().int().min(1).max(500).default(200),
  SKEIN_PAYOUT_EPOCH_CAP: planck.optional(),
  SKEIN_PAYOUT_LEAST: planck.default(0n),
  /** Whether other replicas compute some of what was claimed again. */
  SKEIN_AUDITS: z.enum(['on', 'off']).default('on'),
  SKEIN_LOG: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
})

export interface ServerConfig {
  host: string
  port: number
  /** Folder of the database, the blobs and the secret. */
  dataFolder: string
  /** Folder of the built page. */
  staticFolder: string
  /** Bearer token of researchers; null leaves launching to the machine itself. */
  adminToken: string | null
  /** Key of the node tokens' HMAC; null stands for one that is made once and kept in the data folder. */
  secret: string | null
  /** Those that need no credentials that expire. */
  iceServers: z.infer<typeof iceServerSchema>[]
  /** A TURN server for which credentials are made. */
  turn: TurnService | null
  /** Caps of what the server passes on itself; null: nothing. */
  relay: Pick<RelayLimits, 'pair' | 'all'> | null
  heartbeatMs: number
  maxDatasetBytes: number
  /** Milliseconds of a ledger epoch without a chain; blocks of one with it. */
  epochMs: number
  epochBlocks: number
  /** API requests a minute from one address; blobs and dataset ranges count apart. */
  ratePerMinute: number
  trustProxy: boolean
  /** Hosts that the server is reached by, as URLs have them; empty: any. */
  hosts: string[]
  /** SS58 prefix that wallets' addresses must have where no chain is configured. */
  ss58Prefix: number
  logLevel: z.infer<typeof environmentSchema>['SKEIN_LOG']
  /** Null stands for no chain: everything works and stays unpaid. */
  chainUrl: string | null
  /** Null: whatever chain is there. */
  chainProfile: keyof typeof CHAIN_PROFILES | null
  /** Null: nothing that was claimed is audited. What `policy` leaves out is as `DEFAULT_POLICY` has it. */
  audits: {
    /** Milliseconds that a merge waits for audits of its stage. */
    holdMs: number
    policy: Partial<AuditPolicy>
  } | null
  payouts: {
    /** Secret of the hot account; null pays nobody. */
    seed: string | null
    /** Transfers of one batch, at most. */
    batch: number
    /** Planck that an epoch may pay in all; null for no bound. */
    epochCap: bigint | null
    /** Planck below which a wallet waits. */
    least: bigint
  }
}

/**
 * Reads `SKEIN_*` variables; empty ones count as unset.
 * @throws SkeinError `config.invalid` naming every variable that is wrong
 */
export function configFromEnvironment(environment: Record<string, string | undefined>): ServerConfig {
  const given = Object.fromEntries(
    Object.entries(environment).filter(([, value]) => value !== undefined && value !== ''),
  )
  const parsed = environmentSchema.safeParse(given)
  if (!parsed.success) {
    const faults = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`)
    return fail(
      'config.invalid',
      `The environment is not valid: ${faults.join('; ')}.`,
      'Correct or unset these variables.',
    )
  }
  const env = parsed.data
  const turnSecret = env.SKEIN_TURN_SECRET
  const turn = { urls: env.SKEIN_TURN_URLS, username: env.SKEIN_TURN_USERNAME, credential: env.SKEIN_TURN_CREDENTIAL }
  const fixed = [{ urls: env.SKEIN_STUN_URLS }, ...(turnSecret ? [] : [turn])]
  const caps = (mbit: number, mib: number) => ({ bytesPerSecond: (mbit * 1e6) / 8, bytesPerDay: mib * 1_048_576 })
  return {
    host: env.SKEIN_HOST,
    port: env.SKEIN_PORT,
    dataFolder: resolve(env.SKEIN_DATA),
    staticFolder: resolve(env.SKEIN_STATIC),
    adminToken: env.SKEIN_ADMIN_TOKEN ?? null,
    secret: env.SKEIN_SECRET ?? null,
    iceServers: fixed.filter((server) => server.urls.length > 0),
    turn:
      turnSecret && turn.urls.length > 0
        ? { urls: turn.urls, secret: turnSecret, lifetimeMs: env.SKEIN_TURN_LIFETIME * 1000 }
        : null,
    relay:
      env.SKEIN_RELAY_MBIT > 0
        ? {
            all: caps(env.SKEIN_RELAY_MBIT, env.SKEIN_RELAY_MIB),
            pair: caps(env.SKEIN_RELAY_PAIR_MBIT, env.SKEIN_RELAY_PAIR_MIB),
          }
        : null,
    heartbeatMs: env.SKEIN_HEARTBEAT_MS,
    maxDatasetBytes: env.SKEIN_MAX_DATASET_BYTES,
    epochMs: env.SKEIN_EPOCH * 1000,
    epochBlocks: env.SKEIN_EPOCH_BLOCKS,
    ratePerMinute: env.SKEIN_RATE_PER_MINUTE,
    trustProxy: env.SKEIN_TRUST_PROXY,
    hosts: env.SKEIN_HOSTS,
    ss58Prefix: env.SKEIN_SS58_PREFIX,
    logLevel: env.SKEIN_LOG,
    chainUrl: env.SKEIN_CHAIN_URL ?? null,
    chainProfile: env.SKEIN_CHAIN_PROFILE ?? null,
    audits: env.SKEIN_AUDITS === 'on' ? { holdMs: AUDIT_MS, policy: {} } : null,
    payouts: {
      seed: env.SKEIN_PAYOUT_SEED ?? null,
      batch: env.SKEIN_PAYOUT_BATCH,
      epochCap: env.SKEIN_PAYOUT_EPOCH_CAP ?? null,
      least: env.SKEIN_PAYOUT_LEAST,
    },
  }
}

/**
 * The HMAC key: the configured one, else a random one that outlives restarts in the data folder, readable by its owner
 * only. At least 32 bytes.
 */
export async function loadSecret(config: Pick<ServerConfig, 'secret' | 'dataFolder'>): Promise<Uint8Array> {
  if (config.secret !== null) return new TextEncoder().encode(config.secret)
  await mkdir(config.dataFolder, { recursive: true })
  const path = join(config.dataFolder, 'secret')
  try {
    await writeFile(path, randomBytes(32), { flag: 'wx', mode: 0o600, flush: true })
  } catch (caught) {
    if ((caught as NodeJS.ErrnoException).code !== 'EEXIST') throw caught
  }
  const secret = new Uint8Array(await readFile(path))
  if (secret.byteLength >= 32) return secret
  return fail(
    'config.secret',
    `The secret in ${path} is too short.`,
    'Remove the file; the next start makes a new one.',
  )
}

/** Whether a socket address or a host name without its port means this machine and no other. */
export function isLoopback(address: string): boolean {
  const plain = address.replace(/^\[|\]$/g, '').replace(/^::ffff:/i, '')
  return plain === 'localhost' || plain === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(plain)
}
