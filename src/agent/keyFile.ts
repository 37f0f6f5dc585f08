/** Owns the file in which the agent keeps its device's private key, readable by nobody but its user. */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { fail } from '../protocol/errors.ts'
import type { DeviceIdentity } from '../store/deviceKey.ts'

const OTHERS = 0o077

/**
 * Reads the key (PKCS#8, PEM), or makes one where there is no such file.
 * @throws SkeinError `agent.key` (no Ed25519 key), `agent.key_exposed` (others may read it); what the file system says otherwise
 */
export function openKeyFile(file: string): DeviceIdentity {
  const privateKey = readKey(file) ?? makeKey(file)
  const { x } = createPublicKey(privateKey).export({ format: 'jwk' })
  return {
    id: Buffer.from(x!, 'base64url').toString('hex'),
    // Node's types and the DOM's name one object twice.
    privateKey: privateKey.toCryptoKey('Ed25519', false, ['sign']) as CryptoKey,
  }
}

function readKey(file: string): KeyObject | null {
  let text: string
  try {
    if (process.platform !== 'win32' && (statSync(file).mode & OTHERS) !== 0)
      fail(
        'agent.key_exposed',
        `Others than its owner may use the device's key in ${file}.`,
        `Run chmod 600 on it; if somebody may have copied it, revoke the device and move the file away.`,
      )
    text = readFileSync(file, 'utf8')
  } catch (caught) {
    if ((caught as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw caught
  }
  try {
    const key = createPrivateKey(text)
    if (key.asymmetricKeyType === 'ed25519') return key
  } catch {
    // Said below.
  }
  return fail(
    'agent.key',
    `${file} does not hold an Ed25519 private key.`,
    'Put the right file back, or move this one away: the agent then makes a new key and is a new device.',
  )
}

/** The key is on the disk before anybody hears of it: work is credited to it. */
function makeKey(file: string): KeyObject {
  const { privateKey } = generateKeyPairSync('ed25519')
  const descriptor = openSync(`${file}.new`, 'w', 0o600)
  try {
    writeFileSync(descriptor, privateKey.export({ type: 'pkcs8', format: 'pem' }))
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
  renameSync(`${file}.new`, file)
  return privateKey
}
