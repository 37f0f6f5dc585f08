/** Owns the JSON-RPC methods of the local chain: a node's own, with a finality that lags behind the head as on a network. */
import type { Blockchain } from '@acala-network/chopsticks-core'

export interface Subscriptions {
  subscribe(method: string, id: string, onCancel?: () => void): (data: unknown) => void
  unsubscribe(id: string): void
}
export type Handler = (
  context: { chain: Blockchain },
  params: unknown[],
  subscriptions: Subscriptions,
) => Promise<unknown>

/** The methods that differ from those of the executor, where every head is final at once. */
export function finalityHandlers(
  chain: Blockchain,
  handlers: Readonly<Record<string, Handler>>,
  lag: number,
): Record<string, Handler> {
  const finalized = async () => {
    const block = await chain.getBlockAt(Math.max(0, chain.head.number - lag))
    return block ?? chain.head
  }
  return {
    ...handlers,
    chain_getFinalizedHead: async () => (await finalized()).hash,
    chain_subscribeFinalizedHeads: async (context, _params, { subscribe }) => {
      let told = -1
      let update = () => {}
      const id = chain.headState.subscribeHead(() => update())
      const callback = subscribe('chain_finalizedHead', id, () => chain.headState.unsubscribeHead(id))
      update = () => {
        void finalized().then(async (block) => {
          // What is final stays final: a shorter branch says nothing until it has caught up.
          if (block.number <= told) return
          told = block.number
          callback(await handlers.chain_getHeader!(context, [block.hash], { subscribe, unsubscribe: () => {} }))
        })
      }
      setTimeout(update, 50)
      return id
    },
  }
}
