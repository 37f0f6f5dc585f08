/** Owns a small web server for a test's own page: built by Vite from a folder of TypeScript, served on a free port. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { build } from 'vite'

const contentTypes: Record<string, string> = { '.html': 'text/html', '.js': 'text/javascript' }

export interface ServedPage {
  server: Server
  origin: string
  close(): Promise<void>
}

/** @param root folder with an index.html */
export async function servePage(root: string, host = '127.0.0.1'): Promise<ServedPage> {
  const folder = await mkdtemp(path.join(tmpdir(), 'skein-page-'))
  await build({
    configFile: false,
    logLevel: 'error',
    root,
    worker: { format: 'es' },
    build: { outDir: folder, emptyOutDir: true, target: 'es2023', minify: false },
  })
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost')
    const name = pathname === '/' ? '/index.html' : path.normalize(pathname)
    readFile(path.join(folder, name)).then(
      (bytes) => response.setHeader('content-type', contentTypes[path.extname(name)] ?? 'text/plain').end(bytes),
      () => response.writeHead(404).end(),
    )
  })
  await new Promise<void>((resolve) => server.listen(0, host, resolve))
  return {
    server,
    origin: `http://${host}:${(server.address() as AddressInfo).port}`,
    async close() {
      server.closeAllConnections()
      server.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
