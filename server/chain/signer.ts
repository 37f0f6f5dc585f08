/** Owns the making of keys from secrets in the environment; the secret never leaves this file. */
import { Keyring } from '@polkadot/api'
import { u8aToHex } from '@polkadot/util'
import { cryptoWaitReady, keyExtractSuri, mnemonicValidate } from '@polkadot/util-crypto'
import { fail } from '../../src/protocol/errors.ts'
import type { Signer } from './port.ts'

/** The library would take any short text for a seed, padded with spaces. */
function isKey(secret: string): boolean {
  const { phrase } = keyExtractSuri(secret.startsWith('/') ? `0x${'00'.repeat(32)}${secret}` : secret)
  return /^0x[0-9a-f]{64}$/i.test(phrase) || mnemonicValidate(phrase)
}

/**
 * The secret of a run's deposit address: the same key never stands for two runs, and none of them says anything of the
 * secret it is from. A password comes last in a secret.
 */
export function depositSecret(secret: string, runId: string): string {
  const at = secret.indexOf('///')
  const [key, password] = at < 0 ? [secret, ''] : [secret.slice(0, at), secret.slice(at)]
  return `${key}//run//${runId}${password}`
}

/**
 * An sr25519 key from a mnemonic, a seed in hex, or a development path such as `//Alice`, each with derivations.
 * @throws SkeinError `chain.seed`, which does not say what the secret was
 */
export async function signerFromSecret(secret: string): Promise<Signer> {
  await cryptoWaitReady()
  try {
    if (!isKey(secret)) throw new Error('no key')
    const pair = new Keyring({ type: 'sr25519' }).createFromUri(secret)
    // The type of a signature goes before it in a MultiSignature.
    return { wallet: u8aToHex(pair.publicKey).slice(2), sign: (payload) => pair.sign(payload, { withType: true }) }
  } catch {
    return fail(
      'chain.seed',
      'The secret of the hot account is no key: neither a mnemonic nor a seed in hex, with or without derivations.',
      'Set SKEIN_PAYOUT_SEED to the mnemonic of the account that pays.',
    )
  }
}
