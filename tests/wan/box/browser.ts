/** Owns a Chromium on a host of the box. */
import { chromium, type Browser } from '@playwright/test'
import { browserArgs, findBrowser } from '../../../server/cli/browser.mjs'
import type { Host } from './box.ts'

/** `origin` is served without TLS; to this browser it is a secure one, as it would be with it. */
export function launchBrowser(host: Host, origin: string): Promise<Browser> {
  const executable = findBrowser()
  if (!executable) throw new Error('No Chromium was found.')
  const args = browserArgs().filter((arg) => arg !== '--allow-loopback-in-peer-connection')
  return chromium.launch({
    executablePath: host.launcher(executable),
    args: [...args, `--unsafely-treat-insecure-origin-as-secure=${origin}`],
  })
}
