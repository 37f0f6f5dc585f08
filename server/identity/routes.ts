/** Owns the routes by which wallets bind devices, and by which anybody sees who is bound to whom. */
import { hexToBytes } from '@noble/hashes/utils.js'
import type { FastifyRequest } from 'fastify'
import { z } from 'zod'
import { fail } from '../../src/protocol/errors.ts'
import { deviceIdSchema } from '../../src/protocol/identity.ts'
import {
  bindRequestSchema,
  challengeRequestSchema,
  challengeSchema,
  challengeText,
  challengeViewSchema,
  deviceProofSchema,
  deviceViewSchema,
  remarkPayloadSchema,
  revokeRequestSchema,
  ss58TextSchema,
  walletDevicesSchema,
  walletInfoSchema,
  type DeviceView,
} from '../../src/protocol/wallet.ts'
import { encodeAddress } from '../../src/wallet/ss58.ts'
import type { ApiApp, AppDeps } from '../appDeps.ts'
import type { BindingRecord, KeptChallenge } from '../db/identityStore.ts'
import { audienceOf } from './audience.ts'

/** Bytes of a body: 32 devices with their signatures are 8 KB. */
const BODY_LIMIT = 32_768
/** Calls a minute from one address to routes that keep something or verify a curve's worth of signatures. */
export const SIGNING_RATE = { max: 30, timeWindow: 60_000 }

const tags = ['identity']
const challengeParams = z.object({ id: challengeSchema.shape.id })
const hashParams = z.object({ hash: z.string().regex(/^[0-9a-f]{64}$/) })

export function identityRoutes(app: ApiApp, { config, registry }: AppDeps): void {
  const ss58 = (walletId: string) => encodeAddress(hexToBytes(walletId), registry.ss58Prefix)

  const siteOf = (request: FastifyRequest): string =>
    audienceOf(request.headers, config) ??
    fail(
      'identity.audience',
      'The request was made to no host of this server.',
      'Use one of the server’s own addresses; the operator names them in SKEIN_HOSTS.',
    )

  const viewOf = (deviceId: string, binding: BindingRecord | null): DeviceView => ({
    deviceId,
    wallet: binding && ss58(binding.walletId),
    walletId: binding?.walletId ?? null,
    boundAt: binding?.boundAt ?? null,
    revokedAt: binding?.revokedAt ?? null,
    proof: binding?.proof ?? null,
  })
  const walletView = (walletId: string, bindings: BindingRecord[]) => ({
    wallet: ss58(walletId),
    walletId,
    devices: bindings.map((binding) => viewOf(binding.deviceId, binding)),
  })
  const signing = { bodyLimit: BODY_LIMIT, config: { rateLimit: SIGNING_RATE } }

  app.get('/wallet', { schema: { tags, response: { 200: walletInfoSchema } } }, async () => ({
    ss58Prefix: registry.ss58Prefix,
  }))

  app.post(
    '/wallet/challenge',
    {
      ...signing,
      schema: {
        tags,
        summary: 'A text to be signed once, by the wallet and by each device, before it expires.',
        body: challengeRequestSchema,
        response: { 201: challengeViewSchema },
      },
    },
    async (request, reply) => {
      const { purpose, wallet, devices } = request.body
      const challenge = await registry.challenge(siteOf(request), purpose, wallet, devices)
      return reply.status(201).send({ ...challenge, text: challengeText(challenge), agreed: [] })
    },
  )

  const challengeView = (challenge: KeptChallenge) => ({
    ...challenge,
    text: challengeText(challenge),
    agreed: challenge.proofs.map(({ device }) => device),
  })

  app.get(
    '/wallet/challenges/:id',
    { schema: { tags, params: challengeParams, response: { 200: challengeViewSchema } } },
    async (request) => challengeView(await registry.open(request.params.id)),
  )

  app.post(
    '/wallet/challenges/:id/proofs',
    {
      ...signing,
      schema: {
        tags,
        summary: 'A device agrees with a challenge, so that a wallet on another machine can bind it.',
        params: challengeParams,
        body: deviceProofSchema,
        response: { 200: challengeViewSchema },
      },
    },
    async (request) => challengeView(await registry.agree(siteOf(request), request.params.id, request.body)),
  )

  app.get(
    '/wallet/challenges/:id/remark',
    {
      config: signing.config,
      schema: {
        tags,
        summary: 'The challenge as an extrinsic, for a wallet that signs no text; it is not to be submitted.',
        params: challengeParams,
        response: { 200: remarkPayloadSchema },
      },
    },
    (request) => registry.remark(siteOf(request), request.params.id),
  )

  app.post(
    '/wallet/bind',
    {
      ...signing,
      schema: {
        tags,
        summary: 'Binds the devices of a challenge to its wallet, by the signatures of all of them.',
        body: bindRequestSchema,
        response: { 200: walletDevicesSchema },
      },
    },
    async (request) => {
      const bound = await registry.bind(siteOf(request), request.body)
      return walletView(bound[0]!.walletId, bound)
    },
  )

  app.post(
    '/wallet/revoke',
    {
      ...signing,
      schema: {
        tags,
        summary: 'Voids the devices of a challenge for good, by the signature of their wallet.',
        body: revokeRequestSchema,
        response: { 200: walletDevicesSchema },
      },
    },
    async (request) => {
      const revoked = await registry.revoke(siteOf(request), request.body)
      return walletView(revoked[0]!.walletId, revoked)
    },
  )

  app.get(
    '/wallet/proofs/:hash',
    {
      schema: {
        tags,
        summary: 'What was signed for a binding, whole; its SHA-256 is the hash.',
        params: hashParams,
        produces: ['application/json'],
      },
    },
    async (request, reply) => {
      const body = await registry.evidence(request.params.hash)
      if (body === null)
        return fail('identity.proof_unknown', 'There is no such proof.', 'Take the hash from a device or the ledger.')
      return reply
        .headers({ 'cache-control': 'public, max-age=31536000, immutable' })
        .type('application/json; charset=utf-8')
        .send(body)
    },
  )

  app.get(
    '/devices/:deviceId',
    { schema: { tags, params: z.object({ deviceId: deviceIdSchema }), response: { 200: deviceViewSchema } } },
    async ({ params: { deviceId } }) => viewOf(deviceId, await registry.binding(deviceId)),
  )

  app.get(
    '/wallets/:ss58/devices',
    { schema: { tags, params: z.object({ ss58: ss58TextSchema }), response: { 200: walletDevicesSchema } } },
    async ({ params }) => {
      const walletId = registry.walletIdOf(params.ss58)
      return walletView(walletId, await registry.bindingsOf(walletId))
    },
  )
}
