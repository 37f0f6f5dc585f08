/** Owns `npm run chain`: a real Substrate runtime on loopback, for trying payouts. */
import { parseArgs } from 'node:util'
import { Keyring } from '@polkadot/api'
import { decodeAddress } from '@polkadot/util-crypto'
import { z } from 'zod'
import { fail, toErrorBody } from '../../src/protocol/errors.ts'
import { DEV_ACCOUNTS, startLocalChain } from '../chain/local/localChain.ts'

const USAGE = `npm run chain -- [--port 9944] [--block-ms 2000] [--finality 2] [--fund ADDRESS …]
  --port      where JSON-RPC over WebSocket listens on 127.0.0.1; 0 takes any free port
  --block-ms  milliseconds between blocks
  --finality  blocks by which finality lags behind the head
  --fund      an SS58 address that gets a million tokens at genesis; may be given several times
The chain is kept in memory: every start begins at its genesis.
`

const optionsSchema = z.object({
  port: z.coerce.number().int().min(0).max(65_535),
  'block-ms': z.coerce.number().int().min(100).max(600_000),
  finality: z.coerce.number().int().min(0).max(100),
  fund: z.array(z.string().max(100)).max(100),
})

function publicKeyOf(address: string): Uint8Array {
  try {
    return decodeAddress(address)
  } catch {
    return fail('chain.address', `${address} is no SS58 address.`, 'Copy the address from a wallet.')
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      port: { type: 'string', default: '9944' },
      'block-ms': { type: 'string', default: '2000' },
      finality: { type: 'string', default: '2' },
      fund: { type: 'string', multiple: true, default: [] },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return void process.stdout.write(USAGE)
  const parsed = optionsSchema.safeParse(values)
  if (!parsed.success) return fail('chain.arguments', z.prettifyError(parsed.error), 'See npm run chain -- --help.')
  const { port, finality, fund } = parsed.data
  const local = await startLocalChain({
    port,
    finalityLag: finality,
    blockMs: parsed.data['block-ms'],
    fund: fund.map(publicKeyOf),
  })
  const keyring = new Keyring({ type: 'sr25519', ss58Format: 42 })
  const lines = DEV_ACCOUNTS.map((uri) => `  ${uri.padEnd(10)} ${keyring.createFromUri(uri).address}\n`)
  process.stdout.write(
    `Local chain at ${local.url}; a block every ${parsed.data['block-ms']} ms, final ${finality} blocks later.\n` +
      `Funded accounts (for development only, their keys are public):\n${lines.join('')}` +
      `Server: SKEIN_CHAIN_URL=${local.url} SKEIN_PAYOUT_SEED=//Alice npm start\n`,
  )
  let stopping = false
  const stop = () => {
    if (stopping) return
    stopping = true
    void local.close().finally(() => process.exit(0))
  }
  process.on('SIGINT', stop)
  process.on('SIGTERM', stop)
}

main().catch((caught: unknown) => {
  const { code, message, remedy } = toErrorBody(caught)
  process.stderr.write(`${message} [${code}]\n${remedy}\n`)
  process.exit(1)
})
