/** Owns one volunteer as a browser of its own, whose processes can be killed or made to stand still as a whole. */
import { chromium, type BrowserContext, type Page, type WebSocket } from '@playwright/test'
import { browserArgs, findBrowser } from '../../browser.mjs'
import { volunteerAddress, watchPage } from '../pageReport.ts'
import { Presence } from './presence.ts'

export interface VolunteerBrowser {
  /** The folder of its profile; a browser that is opened with it again is the same device. */
  readonly profile: string
  /** Of the page as it is loaded now. */
  readonly presence: Presence
  /** Kills all its processes at once. */
  kill(): Promise<void>
  freeze(): void
  /** @param committed the last committed step */
  thaw(committed: number): void
  /** Closes the page as a person would, then the browser. */
  close(): Promise<void>
  reload(): Promise<void>
  /** Presses the page's button. */
  pause(): Promise<void>
  resume(committed: number): Promise<void>
  report(name: string): Promise<string>
}

export interface VolunteerBrowserOptions {
  origin: string
  profile: string
  /** Folder for what the browser does not clear away when it is killed. */
  temporary: string
  headed: boolean
  /** Called after each message on the page's control line. */
  changed: () => void
}

/** Longest wait for a page to load or a button to come. */
const PAGE_MS = 30_000

/** Chromium puts a socket into a folder of its own there, and the path of a socket has room for about a hundred bytes. */
const fitsSockets = (folder: string) => folder.length <= 100 - '/org.chromium.Chromium.XXXXXX/SingletonSocket'.length

/** @throws when the browser does not start or the page does not load */
export async function openVolunteerBrowser(options: VolunteerBrowserOptions): Promise<VolunteerBrowser> {
  const { origin, profile, temporary, headed, changed } = options
  const executablePath = findBrowser()
  const context = await chromium.launchPersistentContext(profile, {
    headless: !headed,
    ...(executablePath && { executablePath }),
    args: browserArgs(),
    // A killed browser leaves its temporary files behind, where the demo removes them in the end.
    env: { ...process.env, ...(fitsSockets(temporary) && { TMPDIR: temporary }) },
    permissions: ['camera', 'microphone'],
    viewport: null,
    handleSIGINT: false,
    handleSIGTERM: false,
    handleSIGHUP: false,
  })
  const closed = new Promise<void>((resolve) => context.once('close', () => resolve()))
  const pid = await processOf(context)
  const signal = (name: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT') => signalAll(pid, name)
  const page = context.pages()[0] ?? (await context.newPage())
  page.setDefaultTimeout(PAGE_MS)
  const report = watchPage(page)
  let presence = new Presence(Date.now())
  page.on('websocket', (socket) => listen(socket, () => presence, changed))
  const kill = async () => {
    presence.away = true
    signal('SIGKILL')
    await closed
  }
  try {
    await page.goto(volunteerAddress(origin))
  } catch (caught) {
    await kill()
    throw caught
  }
  return {
    profile,
    get presence() {
      return presence
    },
    kill,
    freeze() {
      presence.away = true
      signal('SIGSTOP')
    },
    thaw(committed) {
      signal('SIGCONT')
      presence.back(committed)
    },
    async close() {
      presence.away = true
      await page.close()
      await context.close()
    },
    async reload() {
      presence.away = true
      presence = new Presence(Date.now())
      await page.reload()
    },
    async pause() {
      presence.away = true
      await press(page, 'Pause')
    },
    async resume(committed) {
      await press(page, 'Resume')
      presence.back(committed)
    },
    report,
  }
}

const press = (page: Page, name: string) => page.getByRole('button', { name, exact: true }).click()

function listen(socket: WebSocket, presence: () => Presence, changed: () => void): void {
  if (!socket.url().endsWith('/control')) return
  // A reload makes a new page of it, whose words are not the old one's.
  const own = presence()
  socket.on('framesent', ({ payload }) => {
    own.sent(String(payload), Date.now())
    changed()
  })
  socket.on('framereceived', ({ payload }) => {
    own.received(String(payload), Date.now())
    changed()
  })
}

async function processOf(context: BrowserContext): Promise<number> {
  const session = await context.browser()!.newBrowserCDPSession()
  const { processInfo } = await session.send('SystemInfo.getProcessInfo')
  await session.detach()
  return processInfo.find(({ type }) => type === 'browser')!.id
}

/** Playwright starts each browser as the leader of a process group; where there are no groups, the browser alone is meant. */
function signalAll(pid: number, signal: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): void {
  for (const target of process.platform === 'win32' ? [pid] : [-pid, pid]) {
    try {
      process.kill(target, signal)
      return
    } catch (caught) {
      if ((caught as NodeJS.ErrnoException).code !== 'ESRCH') throw caught
    }
  }
}
