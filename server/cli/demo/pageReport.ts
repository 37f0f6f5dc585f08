/** Owns what a volunteer's page says of itself when somebody looks for a fault. */
import type { Page } from '@playwright/test'

const KEPT_ERRORS = 10

/** Listens to a page from now on. @returns a few lines: its headline, its detail, what its console complained of */
export function watchPage(page: Page): (name: string) => Promise<string> {
  const errors: string[] = []
  const keep = (text: string) => errors.length < KEPT_ERRORS && errors.push(text.slice(0, 500))
  page.on('console', (message) => message.type() === 'error' && keep(message.text()))
  page.on('pageerror', (error) => keep(error.stack ?? error.message))
  page.on('crash', () => keep('The page crashed.'))
  return async (name) => {
    const panel = page.getByRole('region', { name: 'This device' })
    const said = await panel.innerText({ timeout: 2000 }).catch(() => 'does not answer')
    const [headline = '', detail = ''] = said.split('\n').filter(Boolean)
    return [`${name}: ${headline}. ${detail}`, ...errors.map((error) => `    console: ${error}`)].join('\n')
  }
}

/** The address of a page that presses its own button and takes a software adapter without asking. */
export const volunteerAddress = (origin: string) => `${origin}/?start=1&adapter=software`
