/** Owns the chain port on @polkadot/api: any Substrate chain with System, Balances, Utility and sr25519 accounts. */
import { ApiPromise, WsProvider } from '@polkadot/api'
import type { SubmittableExtrinsic } from '@polkadot/api/types'
import type { ProviderInterface } from '@polkadot/rpc-provider/types'
import type { ApplyExtrinsicResult } from '@polkadot/types/interfaces'
import { hexToU8a, u8aToHex } from '@polkadot/util'
import { blake2AsHex, encodeAddress } from '@polkadot/util-crypto'
import { z } from 'zod'
import { SkeinError } from '../../src/protocol/errors.ts'
import type { RemarkPayload } from '../../src/protocol/wallet.ts'
import { chainProperties, type ChainProperties } from './profile.ts'
import { readRemark, writeRemark } from './remark.ts'
import { readInclusion, readTransfersTo } from './inclusion.ts'
import type {
  BlockRef,
  Chain,
  ChainInfo,
  DryRun,
  Hex,
  Inclusion,
  ReadPayload,
  Receipt,
  RuntimeVersion,
  SignedExtrinsic,
  Signer,
  Submission,
  TransferBatch,
  WalletId,
} from './port.ts'

/** Milliseconds within which a node answers a request. */
const ANSWER_MS = 20_000
/** Milliseconds within which a connection is made and the metadata read. */
const CONNECT_MS = 30_000
/** Accounts asked for at once. */
const ACCOUNTS_AT_ONCE = 500
/** A node's code for bytes it already has in its pool. */
const ALREADY_IMPORTED = 1013
/** Codes of a pool's refusals lie here; below are those of JSON-RPC itself, and no code means no answer. */
const POOL_CODES = { from: 1010, to: 1019 }

const blockSchema = z.object({ block: z.object({ extrinsics: z.array(z.string().startsWith('0x')).max(100_000) }) })

const unreachable = (caught: unknown) =>
  new SkeinError(
    {
      code: 'chain.unreachable',
      message: `The chain's node does not answer: ${caught instanceof Error ? caught.message : String(caught)}`.slice(
        0,
        500,
      ),
      remedy: 'Check that the node behind SKEIN_CHAIN_URL runs and is in reach; what was under way goes on by itself.',
    },
    { cause: caught },
  )

function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer in ${ms / 1000} s`)), ms)
  })
  return Promise.race([work, late]).finally(() => clearTimeout(timer))
}

/** An answer within its time, or `chain.unreachable`. */
const ask = <T>(work: Promise<T>): Promise<T> =>
  within(ANSWER_MS, work).catch((caught: unknown) => {
    throw caught instanceof SkeinError ? caught : unreachable(caught)
  })

const codeOf = (caught: unknown) => {
  const { code } = caught as { code?: unknown }
  return typeof code === 'number' ? code : 0
}

class PolkadotChain implements Chain {
  readonly info: ChainInfo
  private readonly api: ApiPromise
  private readonly provider: ProviderInterface

  constructor(api: ApiPromise, provider: ProviderInterface, info: ChainInfo) {
    this.api = api
    this.provider = provider
    this.info = info
  }

  async finalized(): Promise<BlockRef> {
    const hash = await ask(this.api.rpc.chain.getFinalizedHead())
    const header = await ask(this.api.rpc.chain.getHeader(hash))
    return { number: header.number.toNumber(), hash: hash.toHex() }
  }

  async blockHash(number: number): Promise<Hex | null> {
    if (number > (await this.finalized()).number) return null
    return (await ask(this.api.rpc.chain.getBlockHash(number))).toHex()
  }

  async onFinalized(listener: (number: number) => void): Promise<() => void> {
    return ask(this.api.rpc.chain.subscribeFinalizedHeads((header) => listener(header.number.toNumber())))
  }

  async runtimeVersion(): Promise<RuntimeVersion> {
    const version = await ask(this.api.rpc.state.getRuntimeVersion())
    return {
      specName: version.specName.toString(),
      specVersion: version.specVersion.toNumber(),
      transactionVersion: version.transactionVersion.toNumber(),
    }
  }

  async freeBalances(wallets: readonly WalletId[]): Promise<bigint[]> {
    const at = await ask(this.api.at((await this.finalized()).hash))
    const free: bigint[] = []
    for (let start = 0; start < wallets.length; start += ACCOUNTS_AT_ONCE) {
      const keys = wallets.slice(start, start + ACCOUNTS_AT_ONCE).map((wallet) => `0x${wallet}`)
      const accounts = await ask(at.query.system!.account!.multi(keys))
      for (const account of accounts)
        free.push((account as unknown as { data: { free: { toBigInt(): bigint } } }).data.free.toBigInt())
    }
    return free
  }

  async nextNonce(wallet: WalletId): Promise<number> {
    return (await ask(this.api.rpc.system.accountNextIndex(`0x${wallet}`))).toNumber()
  }

  async estimateFee(batch: TransferBatch, from: WalletId): Promise<bigint> {
    const info = await ask(this.extrinsic(batch).paymentInfo(`0x${from}`))
    return info.partialFee.toBigInt()
  }

  async sign(batch: TransferBatch, signer: Signer, nonce: number, eraBlocks: number): Promise<SignedExtrinsic> {
    const birth = await this.finalized()
    const { api } = this
    const era = api.registry.createType('ExtrinsicEra', { current: birth.number, period: eraBlocks })
    const extrinsic = this.extrinsic(batch)
    const specVersion = api.runtimeVersion.specVersion.toNumber()
    const address = `0x${signer.wallet}`
    // The library's pair would be a second holder of the key; it is only ever asked for a signature over the payload.
    const payload = api.registry.createType(
      'ExtrinsicPayload',
      {
        method: extrinsic.method.toHex(),
        era,
        nonce,
        tip: 0,
        specVersion,
        transactionVersion: api.runtimeVersion.transactionVersion,
        genesisHash: api.genesisHash,
        blockHash: birth.hash,
        mode: 0,
        metadataHash: null,
      },
      { version: api.extrinsicVersion },
    )
    const raw = payload.toU8a({ method: true })
    const signature = u8aToHex(signer.sign(raw.length > 256 ? hexToU8a(blake2AsHex(raw, 256)) : raw))
    extrinsic.addSignature(address, signature, payload.toHex())
    const bytes = extrinsic.toHex()
    return {
      bytes,
      hash: blake2AsHex(bytes, 256),
      nonce,
      birth,
      death: era.asMortalEra.death(birth.number),
      specVersion,
    }
  }

  async dryRun(bytes: Hex): Promise<DryRun> {
    let result: ApplyExtrinsicResult
    try {
      result = await within(ANSWER_MS, this.api.rpc.system.dryRun(bytes))
    } catch (caught) {
      // Most public nodes hold this method to be unsafe; a node that is gone will be noticed by what is asked next.
      if (this.api.isConnected) return { outcome: 'unknown' }
      throw unreachable(caught)
    }
    if (result.isErr) {
      const invalid = result.asErr.isInvalid ? result.asErr.asInvalid : null
      // Whether the pool takes it, such as a nonce that follows on one in the pool, is for submitting to find out.
      return invalid?.isPayment ? { outcome: 'fails', reason: 'the fee cannot be paid' } : { outcome: 'unknown' }
    }
    const dispatched = result.asOk
    if (dispatched.isOk) return { outcome: 'ok' }
    const error = dispatched.asErr
    const meta = error.isModule ? this.api.registry.findMetaError(error.asModule) : null
    return { outcome: 'fails', reason: meta ? `${meta.section}.${meta.name}` : error.type }
  }

  async submit(bytes: Hex): Promise<Submission> {
    try {
      await within(ANSWER_MS, this.api.rpc.author.submitExtrinsic(bytes))
      return { accepted: true }
    } catch (caught) {
      const code = codeOf(caught)
      if (code === ALREADY_IMPORTED) return { accepted: true }
      if (code < POOL_CODES.from || code > POOL_CODES.to) throw unreachable(caught)
      return { accepted: false, reason: (caught as Error).message.slice(0, 300) }
    }
  }

  async find(hash: Hex, from: number, to: number): Promise<Inclusion | null> {
    for (let number = from; number <= to; number++) {
      const block = { number, hash: await this.blockHash(number) }
      if (block.hash === null)
        throw unreachable(new Error(`block ${number} is not final on this node, which must lag behind another`))
      // As the node wrote them: decoding and encoding again would need the block's own runtime.
      const raw = blockSchema.parse(await ask(this.provider.send('chain_getBlock', [block.hash])))
      const index = raw.block.extrinsics.findIndex((bytes) => blake2AsHex(bytes, 256) === hash)
      if (index >= 0) return ask(readInclusion(this.api, { number, hash: block.hash }, index))
    }
    return null
  }

  async transfersTo(wallets: ReadonlySet<WalletId>, block: number): Promise<Receipt[]> {
    const hash = await this.blockHash(block)
    if (hash === null) throw unreachable(new Error(`block ${block} is not final on this node`))
    return ask(readTransfersTo(this.api, hash, wallets))
  }

  addressOf(wallet: WalletId): string {
    return encodeAddress(`0x${wallet}`, this.info.prefix)
  }

  async remarkOf(wallet: WalletId, text: string): Promise<RemarkPayload> {
    return writeRemark(this.api, this.addressOf(wallet), text, await this.finalized())
  }

  readPayload(payload: RemarkPayload): ReadPayload | null {
    return readRemark(this.api, payload)
  }

  async close(): Promise<void> {
    await this.api.disconnect()
  }

  private extrinsic({ transfers, root, rest }: TransferBatch): SubmittableExtrinsic<'promise'> {
    const { balances, system, utility } = this.api.tx
    return utility!.batchAll!([
      ...transfers.map(({ wallet, planck }) => balances!.transferKeepAlive!({ Id: `0x${wallet}` }, planck)),
      ...(rest === undefined ? [] : [balances!.transferAll!({ Id: `0x${rest}` }, false)]),
      system!.remarkWithEvent!(`0x${root}`),
    ])
  }
}

function infoOf(api: ApiPromise, name: string, profile: ChainProperties | null): ChainInfo {
  const { registry, consts } = api
  const big = (constant: unknown) => (constant as { toBigInt(): bigint }).toBigInt()
  // The registry would give what is usual where the chain says nothing.
  const said = registry.getChainProperties()
  const expected = consts.babe?.expectedBlockTime
  const least = consts.timestamp?.minimumPeriod
  // The least period between two timestamps is half of a slot; where slots are not fixed it is 0.
  const blockMs = expected ? big(expected) : least ? 2n * big(least) : 0n
  const properties = {
    prefix: registry.chainSS58 ?? null,
    decimals: said?.tokenDecimals.isSome ? (registry.chainDecimals[0] ?? null) : null,
    symbol: said?.tokenSymbol.isSome ? (registry.chainTokens[0] ?? null) : null,
    existentialDeposit: big(consts.balances!.existentialDeposit),
    blockMs: blockMs > 0n ? Number(blockMs) : null,
  }
  return { name, genesis: api.genesisHash.toHex(), ...chainProperties(properties, profile) }
}

/**
 * Connects to a node; a connection that is lost later is made again by itself.
 * @param endpoint a `ws:` or `wss:` URL, or a provider that is connected already
 * @param profile which chain it has to be
 * @throws SkeinError `chain.unreachable`, `chain.profile`
 */
export async function connectChain(
  endpoint: string | ProviderInterface,
  profile: ChainProperties | null = null,
): Promise<Chain> {
  const provider = typeof endpoint === 'string' ? new WsProvider(endpoint, 2500, {}, ANSWER_MS) : endpoint
  const api = new ApiPromise({ provider, noInitWarn: true, throwOnConnect: true })
  try {
    await within(CONNECT_MS, api.isReadyOrError)
    const name = (await ask(api.rpc.system.chain())).toString()
    return new PolkadotChain(api, provider, infoOf(api, name, profile))
  } catch (caught) {
    await api.disconnect().catch(() => {})
    throw caught instanceof SkeinError ? caught : unreachable(caught)
  }
}
