/** Owns the server as one process: opens what it needs, joins the rooms to one port, and closes them in order. */
import type { Server } from 'node:http'
import type { Duplex } from 'node:stream'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fail, SkeinError, toErrorBody } from '../src/protocol/errors.ts'
import { buildApp } from './app.ts'
import type { ApiApp } from './appDeps.ts'
import { openFolderBlobs } from './checkpoints/folderBlobs.ts'
import { configFromEnvironment, loadSecret } from './config.ts'
import type { ServerConfig } from './config.ts'
import { attachControl, CONTROL_PATH } from './control/gateway.ts'
import { createTokens } from './control/tokens.ts'
import { openSqliteStore } from './db/sqlite.ts'
import { createMetrics } from './metrics.ts'
import { Coordinator } from './runs/coordinator.ts'
import { attachBroker, BROKER_PATH } from './signalling/broker.ts'

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

/** @throws SkeinError `server.port_in_use`, `server.address` */
async function listen(app: ApiApp, { host, port }: ServerConfig): Promise<string> {
  try {
    await app.listen({ host, port })
  } catch (caught) {
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
        'Set SKEIN_HOST and SKEIN_PORT.',
      )
    throw caught
  }
  const address = app.server.address()
  const actual = typeof address === 'object' && address ? address.port : port
  return `http://${host.includes(':') ? `[${host}]` : host}:${actual}`
}

/** Ends WebSocket requests for paths that no room serves; without it they would hang. */
function refuseOtherUpgrades(server: Server): void {
  server.on('upgrade', (request, stream: Duplex) => {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost')
    if (pathname === CONTROL_PATH || pathname === BROKER_PATH) return
    stream.on('error', () => {})
    stream.end('HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n')
  })
}

/**
 * Starts everything on one port; what `options` leaves out comes from the environment. Runs that had not ended when the
 * data folder was last used go on from their last checkpoints.
 * @throws SkeinError `config.*`, `server.*`, `store.open`; nothing stays open then
 */
export async function startServer(options: Partial<ServerConfig> = {}): Promise<RunningServer> {
  const config: ServerConfig = { ...configFromEnvironment(process.env), ...options }
  const closers: (() => void | Promise<void>)[] = []
  let closing: Promise<void> | null = null
  const closeAll = async () => {
    for (const close of closers.reverse()) await close()
  }
  try {
    await openFolder(config.dataFolder)
    const tokens = createTokens(await loadSecret(config))
    const store = await openSqliteStore(join(config.dataFolder, 'skein.db'))
    closers.push(() => store.close())
    const blobs = await openFolderBlobs(join(config.dataFolder, 'blobs'))
    const metrics = createMetrics()
    const log: { app: ApiApp | null } = { app: null }
    const coordinator = new Coordinator({
      store,
      blobs,
      metrics,
      version: await versionOf(),
      log: {
        info: (fields, text) => log.app?.log.info(fields, text),
        error: (fields, text) => log.app?.log.error(fields, text),
      },
    })
    closers.push(() => coordinator.close())
    const app = await buildApp({ config, store, blobs, runs: coordinator, tokens, metrics })
    log.app = app
    closers.push(() => app.close())
    const broker = attachBroker(app.server, { nodeOf: (token) => tokens.nodeOf(token) })
    closers.push(() => broker.close())
    const gateway = attachControl(app.server, {
      tokens,
      heartbeatMs: config.heartbeatMs,
      iceServers: config.iceServers,
      joined: (nodeId, hello) => coordinator.nodeJoined(nodeId, hello),
      message: (nodeId, message) => coordinator.nodeSaid(nodeId, message),
      left: (nodeId) => coordinator.nodeLeft(nodeId),
    })
    closers.push(() => gateway.close())
    refuseOtherUpgrades(app.server)
    // Before the port opens: a volunteer who joins at once finds the runs that wait for it.
    await coordinator.resume(gateway)
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
  const stop = (signal: string) => {
    process.stdout.write(`${signal}: closing.\n`)
    server.close().then(
      () => process.exit(0),
      (caught) => {
        console.error(caught)
        process.exit(1)
      },
    )
    // A second signal, or a reader that never lets go, must not need SIGKILL.
    setTimeout(() => process.exit(1), 10_000).unref()
    for (const again of ['SIGINT', 'SIGTERM'] as const) process.once(again, () => process.exit(1))
  }
  process.once('SIGINT', () => stop('SIGINT'))
  process.once('SIGTERM', () => stop('SIGTERM'))
}

if (import.meta.main) {
  main().catch((caught: unknown) => {
    if (!(caught instanceof SkeinError)) console.error(caught)
    const { code, message, remedy } = toErrorBody(caught)
    console.error(`${message} [${code}]\n${remedy}`)
    process.exit(1)
  })
}
