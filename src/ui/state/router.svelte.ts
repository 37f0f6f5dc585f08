/** Owns which page is shown: its address, the browser's history, and where the focus goes after a change. */
import { tick } from 'svelte'
import type { Attachment } from 'svelte/attachments'
import { readRoute, type Route } from './route.ts'

class Router {
  #headingAwaited = false
  route = $state.raw<Route>({ page: 'contribute' })

  /** Starts listening to the history and to clicks on plain links of this site. Returns the undo. */
  listen(): () => void {
    this.route = readRoute(location.pathname)
    const stop = new AbortController()
    const { signal } = stop
    addEventListener('popstate', () => void this.#show(location.pathname, false), { signal })
    document.addEventListener('click', (event) => this.#intercept(event), { signal })
    return () => stop.abort()
  }

  /**
   * For the heading of every page: it takes the focus when the page was navigated to, so that a screen reader reads it
   * and Tab goes on from there. A page may be loaded late; its heading then takes the focus when it appears.
   */
  readonly heading: Attachment<HTMLElement> = (element) => {
    if (!this.#headingAwaited) return
    this.#headingAwaited = false
    element.focus({ preventScroll: true })
  }

  /** Goes to an address of this site. */
  async go(path: string): Promise<void> {
    if (path !== location.pathname + location.search) history.pushState(null, '', path)
    await this.#show(new URL(path, location.href).pathname, true)
  }

  #intercept(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0) return
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return
    const link = (event.target as Element | null)?.closest?.('a')
    if (!link || link.target || link.hasAttribute('download') || link.origin !== location.origin) return
    if (link.hash && link.pathname === location.pathname) return
    // The API's links (exports) are the server's, not ours.
    if (link.pathname.startsWith('/api/')) return
    event.preventDefault()
    void this.go(link.pathname + link.search)
  }

  async #show(path: string, scrollUp: boolean): Promise<void> {
    this.route = readRoute(path)
    this.#headingAwaited = true
    await tick()
    if (scrollUp) scrollTo(0, 0)
  }
}

export const router = new Router()
