/** Owns the demo's volunteers: one Chromium, a profile for each, all of them real pages that press the real button. */
import { chromium, type Browser, type Page } from '@playwright/test'
import { browserArgs, findBrowser } from '../browser.mjs'

export interface Volunteers {
  /** What each page says of itself and what its console complained of, for a person who looks for a fault. */
  report(): Promise<string[]>
  close(): Promise<void>
}

const KEPT_ERRORS = 10

/** @throws when the browser does not start or a page does not load */
export async function openVolunteers(origin: string, count: number, headed: boolean): Promise<Volunteers> {
  const executablePath = findBrowser()
  const browser: Browser = await chromium.launch({
    headless: !headed,
    ...(executablePath && { executablePath }),
    args: browserArgs(),
    // The demo shuts down in its own order.
    handleSIGINT: false,
    handleSIGTERM: false,
    handleSIGHUP: false,
  })
  const pages: { page: Page; errors: string[] }[] = []
  try {
    for (let i = 0; i < count; i++) {
      const context = await browser.newContext({ permissions: ['camera', 'microphone'], viewport: null })
      const page = await context.newPage()
      const errors: string[] = []
      const keep = (text: string) => errors.length < KEPT_ERRORS && errors.push(text.slice(0, 500))
      page.on('console', (message) => message.type() === 'error' && keep(message.text()))
      page.on('pageerror', (error) => keep(error.stack ?? error.message))
      page.on('crash', () => keep('The page crashed.'))
      pages.push({ page, errors })
      await page.goto(`${origin}/?start=1&adapter=software`)
    }
  } catch (caught) {
    await browser.close()
    throw caught
  }
  return {
    report: () =>
      Promise.all(
        pages.map(async ({ page, errors }, i) => {
          const panel = page.getByRole('region', { name: 'This device' })
          const said = await panel.innerText({ timeout: 2000 }).catch(() => 'does not answer')
          const [headline = '', detail = ''] = said.split('\n').filter(Boolean)
          return [`volunteer ${i + 1}: ${headline}. ${detail}`, ...errors.map((error) => `    console: ${error}`)].join(
            '\n',
          )
        }),
      ),
    close: () => browser.close(),
  }
}
