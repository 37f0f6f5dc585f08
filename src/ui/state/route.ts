/** Owns the addresses of the pages. */

export type Route =
  | { page: 'contribute' }
  | { page: 'earnings' }
  | { page: 'console' }
  | { page: 'ledger' }
  | { page: 'run'; runId: string }
  | { page: 'notFound'; path: string }

/** Reads a pathname; a trailing slash means nothing. */
export function readRoute(pathname: string): Route {
  const path = pathname.replace(/\/+$/, '') || '/'
  if (path === '/' || path === '/index.html') return { page: 'contribute' }
  if (path === '/earnings') return { page: 'earnings' }
  if (path === '/console') return { page: 'console' }
  if (path === '/console/ledger') return { page: 'ledger' }
  const run = /^\/console\/runs\/([A-Za-z0-9_-]{1,64})$/.exec(path)
  if (run) return { page: 'run', runId: run[1]! }
  return { page: 'notFound', path: pathname }
}

export function runPath(runId: string): string {
  return `/console/runs/${runId}`
}
