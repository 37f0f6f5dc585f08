/** Proves that a device which cannot take part is told why, and what to do about it. */
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import WebSocket from 'ws'
import { serverMessageSchema } from '../../src/protocol/control.ts'
import { PROTOCOL_VERSION } from '../../src/protocol/version.ts'
import { expect, headline, test } from './skein.ts'

test('a browser without WebGPU is told which browsers have it', async ({ skein }) => {
  const profile = await skein.profile()
  await profile.addInitScript('delete Navigator.prototype.gpu')
  const page = await profile.newPage()
  await page.goto(skein.origin)
  await page.getByRole('button', { name: 'Start contributing' }).click()
  await expect(headline(page)).toHaveText('This device cannot contribute yet')
  const note = page.getByRole('alert')
  await expect(note).toContainText('This browser has no WebGPU.')
  await expect(note).toContainText('Use a current Chrome')
  await expect(page.getByRole('button', { name: 'Try again' })).toBeVisible()
})

test('a software adapter is used only when the person says so', async ({ skein }) => {
  const page = await (await skein.profile()).newPage()
  await page.goto(skein.origin)
  await page.getByRole('button', { name: 'Start contributing' }).click()
  const panel = page.getByRole('region', { name: 'This device' })
  await expect(panel.getByText(/cannot contribute yet|Waiting for a run/)).toBeVisible()
  test.skip(await panel.getByText('Waiting for a run').isVisible(), 'This machine has a GPU.')
  await page.getByRole('button', { name: 'Contribute anyway (slow)' }).click()
  await expect(headline(page)).toHaveText('Waiting for a run')
})

/** The page as it stands, but for the version that its Worker says it speaks. */
const withOldPage = test.extend({
  pageFolder: async ({ pageFolder }, use) => {
    const folder = await mkdtemp(path.join(os.tmpdir(), 'skein-old-page-'))
    await cp(pageFolder, folder, { recursive: true })
    let rewritten = 0
    for (const name of await readdir(path.join(folder, 'assets'))) {
      if (!name.endsWith('.js')) continue
      const file = path.join(folder, 'assets', name)
      const code = (await readFile(file, 'utf8')).replace(
        /(["'`]hello["'`],\s*protocol:)[\w$]+/g,
        (_, before: string) => {
          rewritten++
          return `${before}0`
        },
      )
      await writeFile(file, code)
    }
    expect(rewritten).toBe(1)
    await use(folder)
    await rm(folder, { recursive: true })
  },
})

withOldPage('an old page against a new server is told to reload', async ({ skein }) => {
  const page = await skein.volunteer()
  await expect(headline(page)).toHaveText('This device cannot contribute yet')
  const note = page.getByRole('alert')
  await expect(note).toContainText(`This client speaks protocol 0, the server ${PROTOCOL_VERSION}.`)
  await expect(note).toContainText(/reload/i)
})

test('the server turns an old client away before it looks at the rest of its hello', async ({ skein }) => {
  const socket = new WebSocket(`${skein.origin.replace('http', 'ws')}/control`)
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
  const closed = new Promise((resolve) => socket.once('close', resolve))
  const answer = new Promise<string>((resolve) => socket.once('message', (data) => resolve(String(data))))
  socket.send(JSON.stringify({ type: 'hello', protocol: PROTOCOL_VERSION + 1, whatever: true }))
  const message = serverMessageSchema.parse(JSON.parse(await answer))
  expect(message).toMatchObject({ type: 'rejected', error: { code: 'control.protocol' } })
  await closed
})
