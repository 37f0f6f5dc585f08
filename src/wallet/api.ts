/** Owns the calls to the routes of identities, each answer checked against its schema. */
import type { z } from 'zod'
import { errorSchema, SkeinError } from '../protocol/errors.ts'
import {
  challengeViewSchema,
  remarkPayloadSchema,
  deviceViewSchema,
  walletDevicesSchema,
  walletInfoSchema,
  type DeviceView,
  type WalletDevices,
} from '../protocol/wallet.ts'
import type { WalletApi } from './binding.ts'

const DEADLINE_MS = 20_000

export interface IdentityApi extends WalletApi {
  /** The chain's SS58 prefix, for `connectWallets`. */
  ss58Prefix(): Promise<number>
  device(deviceId: string): Promise<DeviceView>
  devicesOf(address: string): Promise<WalletDevices>
}

/**
 * @param root address of `/api/v1`, without a slash at its end
 * @throws SkeinError from each call: what the server refuses, `api.unreachable` or `api.unexpected`
 */
export function identityApi(root: string, fetcher: typeof fetch = (input, init) => fetch(input, init)): IdentityApi {
  async function call<T>(path: string, schema: z.ZodType<T>, json?: unknown): Promise<T> {
    const init: RequestInit = { signal: AbortSignal.timeout(DEADLINE_MS) }
    if (json !== undefined)
      Object.assign(init, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(json),
      })
    let body: unknown
    let ok: boolean
    try {
      const response = await fetcher(`${root}${path}`, init)
      ok = response.ok
      body = await response.json()
    } catch (caught) {
      throw new SkeinError(
        {
          code: 'api.unreachable',
          message: 'The server does not answer.',
          remedy: 'Check the connection and try again.',
        },
        { cause: caught },
      )
    }
    const refusal = ok ? undefined : errorSchema.safeParse(body).data
    if (refusal) throw new SkeinError(refusal)
    const parsed = ok ? schema.safeParse(body) : undefined
    if (parsed?.success) return parsed.data
    throw new SkeinError({
      code: 'api.unexpected',
      message: 'The server answered something that this page does not understand.',
      remedy: 'Reload the page to get the current version.',
    })
  }
  return {
    ss58Prefix: async () => (await call('/wallet', walletInfoSchema)).ss58Prefix,
    challenge: (request) => call('/wallet/challenge', challengeViewSchema, request),
    open: (id) => call(`/wallet/challenges/${encodeURIComponent(id)}`, challengeViewSchema),
    remark: (id) => call(`/wallet/challenges/${encodeURIComponent(id)}/remark`, remarkPayloadSchema),
    agree: (id, proof) => call(`/wallet/challenges/${encodeURIComponent(id)}/proofs`, challengeViewSchema, proof),
    bind: (request) => call('/wallet/bind', walletDevicesSchema, request),
    revoke: (request) => call('/wallet/revoke', walletDevicesSchema, request),
    device: (deviceId) => call(`/devices/${encodeURIComponent(deviceId)}`, deviceViewSchema),
    devicesOf: (address) => call(`/wallets/${encodeURIComponent(address)}/devices`, walletDevicesSchema),
  }
}
