/** Owns the demo's volunteers: one Chromium, a profile for each, all of them real pages that press the real button. */
import { chromium, type Browser } from '@playwright/test'
import { browserArgs, findBrowser } from '../browser.mjs'
import { volunteerAddress, watchPage } from './pageReport.ts'

export interface Volunteers {
  /** What each page says of itself and what its console complained of, for a person who looks for a fault. */
  report(): Promise<string[]>
  close(): Promise<void>
}

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
  const reports: ReturnType<typeof watchPage>[] = []
  try {
    for (let i = 0; i < count; i++) {
      const context = await browser.newContext({ permissions: ['camera', 'microphone'], viewport: null })
      const page = await context.newPage()
      reports.push(watchPage(page))
      await page.goto(volunteerAddress(origin))
    }
  } catch (caught) {
    await browser.close()
    throw caught
  }
  return {
    report: () => Promise.all(reports.map((report, i) => report(`volunteer ${i + 1}`))),
    close: () => browser.close(),
  }
}
