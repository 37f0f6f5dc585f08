/** Owns how a machine without a screen agrees to be bound: its key signs the challenge that a wallet's owner asked for elsewhere. */
import { mkdirSync } from 'node:fs'
import path from 'node:path'
import { deviceKey } from '../store/deviceKey.ts'
import { identityApi } from '../wallet/api.ts'
import { agreeToBinding } from '../wallet/binding.ts'
import { openKeyFile } from './keyFile.ts'

/**
 * May be run while the agent works: the key is read, not written. Whoever can run it as this user has the key anyway, so that
 * naming the challenge is the consent; what it says is printed.
 * @throws SkeinError `identity.*`, `wallet.challenge`, `api.*`, `agent.key`, `agent.key_exposed`
 */
export async function agree(
  origin: string,
  folder: string,
  challengeId: string,
  print: (text: string) => void,
): Promise<void> {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const device = deviceKey(openKeyFile(path.join(folder, 'device.key')))
  const asked = { site: new URL(origin).host, challengeId, device }
  await agreeToBinding(identityApi(`${origin}/api/v1`), asked, ({ text }) => {
    print(text)
    return true
  })
  print(`This device agrees. The account has to sign the same challenge before it expires.`)
}
