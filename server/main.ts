/** Owns the server as one process: opens what it needs, joins the rooms to one port, and closes them in order. */
import { once } from 'node:events'
import { mkdir, readFile } from 'node:fs/promises'
import type { Server } from 'node:http'
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { fail, SkeinError, toErrorBody } from '../src/protocol/errors.ts'
import { BROKER_PATH, RELAY_PATH } from '../src/protocol/signalling.ts'
import { buildApp } from './app.ts'
import type { ApiApp } from './appDeps.ts'
import { AuditDesk } from './audits/desk/desk.ts'
import { openFolderBlobs } from './checkpoints/folderBlobs.ts'
import { configFromEnvironment, loadSecret } from './config.ts'
import type { ServerConfig } from './config.ts'
import { attachControl, CONTROL_PATH, type Gateway } from './control/gateway.ts'
import { createTokens } from './control/tokens.ts'
import { lockFolder } from './db/folderLock.ts'
import { openSqliteStore } from './db/sqlite.ts'
import { deviceRevoked } from './identity/refusals.ts'
import { Registry } from './identity/registry.ts'
import { Ledger } from './ledger/ledger.ts'
import { serverClock } from './ledger/sealing.ts'
import { startSealing } from './ledger/ticker.ts'
import { createMetrics } from './metrics.ts'
import { silenceTiming } from './orchestrator/timing.ts'
import { payoutSource } from './payouts/source.ts'
import { Treasury } from './payouts/treasury.ts'
import { Coordinator } from './runs/coordinator.ts'
import { Timelines } from './runs/timelines.ts'
import { attachBroker } from './signalling/broker.ts'
import { iceSource } from './signalling/iceServers.ts'
import { attachRelay } from './signalling/relay.ts'

/** Milliseconds that answers under way get to finish when the server closes. */
const DRAIN_MS = 3000
/** Milliseconds after which a server that cannot close in order ends all the same. */
const CLOSE_MS = 10_000

export interface RunningServer {
  /** Where the page and the API are, such as `http://127.0.0.1:8080`. */
  readonly url: string
  /** Ends connections, commits what is under way, closes the database; calling it again waits for the same end. */
  close(): Promise<void>
}

async function versionOf(): Promise<string> {
  const text = await readFile(new URL('../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}

/** @throws SkeinError `server.data_folder` */
async function openFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true })
  } catch (caught) {
    throw new SkeinError(
      {
        code: 'server.data_folder',
        message: `The data folder ${path} cannot be made: ${(caught as Error).message}`,
        remedy: 'Set SKEIN_DATA to a folder that this user may write to.',
      },
      { cause: caught },
    )
  }
}

/** Turns what a listening socket reports into words. @throws SkeinError `server.port_in_use`, `server.address` */
function refuseAddress(caught: unknown, { host, port }: ServerConfig): never {
  const { code, message } = caught as NodeJS.ErrnoException
  if (code === 'EADDRINUSE')
    fail(
      'server.port_in_use',
      `Port ${port} of ${host} is in use.`,
      'Stop what listens there, or set SKEIN_PORT to another port (0 takes any free one).',
    )
  if (code === 'EACCES' || code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND')
    fail(
      'server.address',
      `The server cannot listen on ${host}:${port}: ${message}`,
      'Change SKEIN_HOST or SKEIN_PORT.',
    )
  throw caught
}

/** Finds out whether the address can be had before anything is made on disk. */
async function probe(config: ServerConfig): Promise<void> {
  const socket = createServer()
  try {
    socket.listen(config.port, config.host)
    await once(socket, 'listening')
  } catch (caught) {
    refuseAddress(caught, config)
  }
  socket.close()
  await once(socket, 'close')
}

async function listen(app: ApiApp, config: ServerConfig): Promise<string> {
  const { host, port } = config
  await app.listen({ host, port }).catch((caught: unknown) => refuseAddress(caught, config))
  const address = app.server.address()
  const actual = typeof address === 'object' && address ? address.port : port
  return `http://${host.includes(':') ? `[${host}]` : host}:${actual}`
}

/**
 * Ends WebSocket requests for paths that no room serves; without it they would hang. Comes first among the listeners, so
 * that the rooms never see a target that is no URL.
 */
function refuseOtherUpgrades(server: Server, served: readonly string[]): void {
  server.on('upgrade', (request, stream: Duplex) => {
    const url = URL.parse(request.url ?? '/', 'http://localhost')
    if (url && served.includes(url.pathname)) return
    request.url = '/'
    stream.on('error', () => {})
    stream.end('HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n')
  })
}

/**
 * Starts everything on one port; what `options` leaves out comes from the environment. Runs that had not ended when the
 * data folder was last used go on with the nodes that come back, or from their last checkpoints.
 * @throws SkeinError `config.*`, `server.*`, `store.open`; nothing stays open then
 */
export async function startServer(options: Partial<ServerConfig> = {}): Promise<RunningServer> {
  const config: ServerConfig = { ...configFromEnvironment(process.env), ...options }
  const closers: (() => void | Promise<void>)[] = []
  let closing: Promise<void> | null = null
  const closeAll = async () => {
    for (let close = closers.pop(); close; close = closers.pop()) await close()
  }
  try {
    await probe(config)
    await openFolder(config.dataFolder)
    closers.push(lockFolder(config.dataFolder))
    const tokens = createTokens(await loadSecret(config))
    const store = await openSqliteStore(join(config.dataFolder, 'skein.db'))
    closers.push(() => store.close())
    const blobs = await openFolderBlobs(join(config.dataFolder, 'blobs'))
    const metrics = createMetrics()
    const log: { app: ApiApp | null } = { app: null }
    const { heartbeatMs } = config
    const said = {
      info: (fields: object, text: string) => log.app?.log.info(fields, text),
      error: (fields: object, text: string) => log.app?.log.error(fields, text),
    }
    const money: { treasury: Treasury | null } = { treasury: null }
    const ledger = new Ledger({
      store: store.ledger,
      ...(config.chainUrl === null
        ? { clock: serverClock(), epochLength: config.epochMs }
        : { clock: { unit: 'block', now: () => money.treasury!.height() }, epochLength: config.epochBlocks }),
      log: said,
    })
    const coordinator = new Coordinator({
      timing: { ...silenceTiming(heartbeatMs), auditMs: config.audits?.holdMs ?? 0 },
      store,
      blobs,
      metrics,
      version: await versionOf(),
      log: said,
      creditOf: (runId) => ledger.creditOf(runId),
      deposits: {
        walletFor: (runId) => money.treasury!.depositWallet(runId),
        addressOf: (wallet) => money.treasury!.addressOf(wallet),
        refundsOf: (runId) => money.treasury!.refundsOf(runId),
      },
    })
    closers.push(() => coordinator.close())
    const admission: { gateway: Gateway | null } = { gateway: null }
    const registry = new Registry({
      store: store.identity,
      ss58Prefix: () => (config.chainUrl === null ? config.ss58Prefix : money.treasury!.prefix()),
      remarks: () => money.treasury!.remarks(),
      recorded: (entry) => ledger.record(entry),
      revoked: (deviceId) => admission.gateway?.expel(deviceId, deviceRevoked(deviceId)),
      failed: (err) => log.app?.log.error({ err }, 'the ledger has not taken an identity'),
    })
    const treasury = new Treasury({
      config,
      store: store.payouts,
      source: payoutSource(ledger),
      log: said,
      deposits: {
        store: store.deposits,
        open: () => coordinator.depositors(),
        ended: () => coordinator.endedDepositors(),
        held: (runId, planck) => coordinator.deposited(runId, planck),
      },
    })
    money.treasury = treasury
    closers.push(() => treasury.close())
    const timelines = new Timelines()
    const audits = new AuditDesk({
      store: store.audits,
      ledger,
      runs: coordinator.audited,
      walletOf: async (device) => (await registry.binding(device))?.walletId ?? null,
      expel: (device, error) => admission.gateway?.expel(device, error),
      metrics,
      log: said,
      policy: { patienceMs: (config.audits?.holdMs ?? 0) / 3, ...config.audits?.policy },
    })
    await audits.open()
    closers.push(() => audits.close())
    const rooms = { config, store, blobs, timelines, ledger, tokens, registry, metrics, treasury, audits }
    const app = await buildApp({ ...rooms, runs: coordinator })
    log.app = app
    closers.push(async () => {
      // A connection that a browser keeps open would hold the close up for as long as it is kept alive.
      const cut = setTimeout(() => app.server.closeAllConnections(), DRAIN_MS)
      await app.close().finally(() => clearTimeout(cut))
    })
    refuseOtherUpgrades(app.server, [CONTROL_PATH, BROKER_PATH, ...(config.relay ? [RELAY_PATH] : [])])
    const broker = attachBroker(app.server, { nodeOf: (token) => tokens.nodeOf(token) })
    closers.push(() => broker.close())
    if (config.relay) {
      const relay = attachRelay(app.server, { nodeOf: (token) => tokens.nodeOf(token), limits: config.relay })
      closers.push(() => relay.close())
    }
    const gateway = attachControl(app.server, {
      tokens,
      heartbeatMs,
      ice: iceSource(config.iceServers, config.turn),
      audience: config,
      barred: async (deviceId) => audits.barred(deviceId) ?? (await registry.barred(deviceId)),
      joined: (nodeId, hello) => coordinator.nodeJoined(nodeId, hello),
      message: (nodeId, message) =>
        message.type === 'timeline' ? timelines.told(nodeId, message) : coordinator.nodeSaid(nodeId, message),
      detached: (nodeId) => coordinator.nodeDetached(nodeId),
      resumed: (nodeId) => coordinator.nodeResumed(nodeId),
      unresponsive: (nodeId) => coordinator.nodeUnresponsive(nodeId),
    })
    admission.gateway = gateway
    closers.push(() => gateway.close())
    // Before the port opens: a volunteer who joins at once finds the runs that wait for it.
    await coordinator.resume(timelines.watching(gateway), audits)
    void registry.record()
    await treasury.open()
    closers.push(startSealing(ledger, said))
    const url = await listen(app, config)
    app.log.info({ url, dataFolder: config.dataFolder }, 'Skein listens')
    return { url, close: () => (closing ??= closeAll()) }
  } catch (caught) {
    await closeAll()
    throw caught
  }
}

async function main(): Promise<void> {
  const server = await startServer()
  process.stdout.write(`Skein is at ${server.url} (console: ${server.url}/console)\n`)
  let stopping = false
  const stop = (signal: string) => {
    // A terminal and whoever started this process may both pass the same signal on.
    if (stopping) return
    stopping = true
    process.stdout.write(`${signal}: closing.\n`)
    setTimeout(() => process.exit(1), CLOSE_MS).unref()
    server.close().then(
      () => process.exit(0),
      (caught) => {
        complain(caught)
        process.exit(1)
      },
    )
  }
  process.on('SIGINT', stop)
  process.on('SIGTERM', stop)
}

/** Says what failed on stderr: words for what was foreseen, the stack for what was not. */
function complain(caught: unknown): void {
  const { code, message, remedy } = toErrorBody(caught)
  const stack = caught instanceof Error && !(caught instanceof SkeinError) ? `${caught.stack}\n` : ''
  process.stderr.write(`${stack}${message} [${code}]\n${remedy}\n`)
}

if (import.meta.main) {
  main().catch((caught: unknown) => {
    complain(caught)
    process.exit(1)
  })
}
