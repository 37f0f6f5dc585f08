/** Owns a chain on loopback for development and tests: a published runtime, executed block by block in this process. */
import { Keyring } from '@polkadot/api'
import type { Blockchain } from '@acala-network/chopsticks-core'
import { fail } from '../../../src/protocol/errors.ts'
import { localGenesis, SLOT_MS } from './genesis.ts'
import { finalityHandlers } from './handlers.ts'
import type { Handler } from './handlers.ts'
import { serveRpc } from './rpcServer.ts'

/** Blocks that stay readable; a payout looks back over one era. */
const KEPT_BLOCKS = 4096
/** What each development account begins with, in planck: a million tokens of 12 decimals. */
const DEV_PLANCK = 1_000_000n * 10n ** 12n
export const DEV_ACCOUNTS = ['//Alice', '//Bob', '//Charlie', '//Dave', '//Eve', '//Ferdie']

export interface LocalChainOptions {
  port: number
  /** Blocks by which finality lags behind the head. */
  finalityLag: number
  /** Milliseconds between blocks; null builds none but by {@link LocalChain.build}. */
  blockMs: number | null
  /** Public keys that get as much as the development accounts. */
  fund?: readonly Uint8Array[]
}

export interface LocalChain {
  readonly url: string
  /** The executor: `setHead` is a reorganization, `newBlock` a block. */
  readonly chain: Blockchain
  /** Builds blocks at once, out of what is in the pool. */
  build(blocks?: number): Promise<void>
  close(): Promise<void>
}

/** A node's pool drops what can never be included any more; the executor's would try it again with every block. */
async function dropInvalid(chain: Blockchain): Promise<void> {
  const pending = [...chain.txPool.pendingExtrinsics]
  if (pending.length === 0) return
  chain.txPool.clear()
  for (const extrinsic of pending) await chain.submitExtrinsic(extrinsic).catch(() => {})
}

/** @throws SkeinError `chain.local_start` when the runtime did not build its first block */
export async function startLocalChain(options: LocalChainOptions): Promise<LocalChain> {
  process.env.LOG_LEVEL ??= 'error'
  // Only now: the executor reads its log level when it is loaded.
  const chopsticks = await import('@acala-network/chopsticks-core')
  const keyring = new Keyring({ type: 'sr25519' })
  const accounts = [
    ...DEV_ACCOUNTS.map((uri) => keyring.createFromUri(uri).publicKey),
    ...(options.fund ?? []).map((key) => Uint8Array.from(key)),
  ]
  const genesis = localGenesis(Date.now() - SLOT_MS, new Map(accounts.map((key) => [key, DEV_PLANCK])))
  const chain = await chopsticks.setup({
    genesis: new chopsticks.GenesisProvider(genesis),
    buildBlockMode: chopsticks.BuildBlockMode.Manual,
    maxMemoryBlockCount: KEPT_BLOCKS,
    processQueuedMessages: false,
  })
  if (chain.head.number !== 1)
    fail(
      'chain.local_start',
      `The local chain stands at block ${chain.head.number} instead of 1.`,
      'Start it again; the messages above say what the runtime refused.',
    )
  const handlers = finalityHandlers(
    chain,
    chopsticks.allHandlers as unknown as Record<string, Handler>,
    options.finalityLag,
  )
  const rpc = await serveRpc(chain, handlers, options.port)
  let building: Promise<unknown> = Promise.resolve()
  const build = async (blocks = 1) => {
    for (let n = 0; n < blocks; n++) {
      const next = building.then(async () => {
        const { number } = chain.head
        await chain.newBlock()
        // The executor writes failures to its log and goes on.
        if (chain.head.number === number) throw new Error(`The local chain did not build block ${number + 1}.`)
        await dropInvalid(chain)
      })
      building = next.catch(() => {})
      await next
    }
  }
  const timer = options.blockMs === null ? null : setInterval(() => void build().catch(() => {}), options.blockMs)
  return {
    url: rpc.url,
    chain,
    build,
    close: async () => {
      if (timer) clearInterval(timer)
      await building
      await rpc.close()
      await chain.close()
      await chopsticks.destroyWorker()
    },
  }
}
