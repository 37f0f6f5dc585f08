/** Owns the contenders in Chromium: one browser, a page for each, served from this machine. */
import { readFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { chromium, type Browser } from '@playwright/test'
import { browserArgs, findBrowser } from '../../../server/cli/browser.mjs'
import { fail } from '../../../src/protocol/errors.ts'
import { remoteContender, type Realm } from './remote.ts'

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.wasm': 'application/wasm',
}

/** `/page/NAME` is a page that loads NAME.js; all else are files of `folder`. */
async function serve(folder: string): Promise<{ server: Server; origin: string }> {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost')
    const send = (status: number, type: string, body: string | Buffer) => {
      // Isolated pages have finer clocks, and engines may use threads.
      const isolation = {
        'cross-origin-opener-policy': 'same-origin',
        'cross-origin-embedder-policy': 'require-corp',
        'cross-origin-resource-policy': 'same-origin',
      }
      response.writeHead(status, { 'content-type': type, ...isolation }).end(body)
    }
    const page = /^\/page\/([\w-]+)$/.exec(pathname)?.[1]
    if (page) {
      const html = `<!doctype html><title>${page}</title><link rel="icon" href="data:,"><script type="module" src="/${page}.js"></script>`
      return send(200, TYPES['.html']!, html)
    }
    const file = path.join(folder, path.normalize(pathname))
    readFile(file).then(
      (body) => send(200, TYPES[path.extname(file)] ?? 'application/octet-stream', body),
      () => send(404, 'text/plain', 'not found'),
    )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { server, origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

/** @throws SkeinError `bench.no_browser` */
export async function openChromium(folder: string): Promise<Realm> {
  const executablePath = findBrowser()
  if (!executablePath) {
    fail(
      'bench.no_browser',
      'No Chromium or Chrome was found.',
      'Install one, name one in SKEIN_BROWSER, or measure on Dawn alone: --where dawn.',
    )
  }
  const browser: Browser = await chromium.launch({ executablePath, args: browserArgs() }).catch((caught: unknown) => {
    const why = caught instanceof Error ? caught.message.split('\n')[0] : String(caught)
    return fail('bench.no_browser', `${executablePath} does not start: ${why}`, 'Name another one in SKEIN_BROWSER.')
  })
  const { server, origin } = await serve(folder)
  return {
    async open(engine) {
      const page = await browser.newPage()
      const said: string[] = []
      page.on('pageerror', (error) => said.push(error.message))
      page.on('console', (message) => message.type() === 'error' && said.push(message.text().slice(0, 300)))
      await page.goto(`${origin}/page/${engine}`)
      await page
        .waitForFunction(() => 'contender' in globalThis, null, { timeout: 60_000 })
        .catch((caught: unknown) => {
          throw new Error(said.join('\n') || `The page of ${engine} does not load.`, { cause: caught })
        })
      page.setDefaultTimeout(0)
      const contender = remoteContender((method, args) =>
        page.evaluate(
          ([name, given]) => {
            const { contender } = globalThis as unknown as {
              contender: Record<string, (...args: unknown[]) => Promise<unknown>>
            }
            return contender[name]!(...given)
          },
          [method, args] as const,
        ),
      )
      return { contender, close: () => page.close() }
    },
    async close() {
      await browser.close()
      server.closeAllConnections()
      server.close()
    },
  }
}
