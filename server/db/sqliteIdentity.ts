/** Owns identities in the embedded database. */
import type { Kysely, Selectable, Transaction } from 'kysely'
import { z } from 'zod'
import { fail, SkeinError } from '../../src/protocol/errors.ts'
import { challengeSchema, walletIdSchema, type DeviceProof } from '../../src/protocol/wallet.ts'
import { CHALLENGE_USED, deviceRevoked } from '../identity/refusals.ts'
import type { IdentityTables } from './identityMigration.ts'
import type { BindingRecord, ChallengeRecord, IdentityEntry, IdentityStore, Signed } from './identityStore.ts'
import { readJson } from './rows.ts'

const recordSchema = challengeSchema.extend({ walletId: walletIdSchema })
const entrySchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('bind'), device: z.string(), wallet: z.string(), proof: z.string() }),
  z.strictObject({ kind: z.literal('revoke'), device: z.string() }),
])

const bindingOf = (row: Selectable<IdentityTables['bindings']>): BindingRecord => ({
  deviceId: row.device_id,
  walletId: row.wallet_id,
  proof: row.proof,
  boundAt: row.bound_at,
  revokedAt: row.revoked_at,
})

export class SqliteIdentity implements IdentityStore {
  readonly #db: Kysely<IdentityTables>

  constructor(db: Kysely<IdentityTables>) {
    this.#db = db
  }

  async addChallenge(challenge: ChallengeRecord, limit: number, keepMs: number): Promise<boolean> {
    const { id, issuedAt, expiresAt } = challenge
    return this.#db.transaction().execute(async (tx) => {
      await tx
        .deleteFrom('wallet_challenges')
        .where('expires_at', '<', issuedAt - keepMs)
        .execute()
      const { open } = await tx
        .selectFrom('wallet_challenges')
        .select((eb) => eb.fn.countAll<number>().as('open'))
        .where('expires_at', '>', issuedAt)
        .where('used_at', 'is', null)
        .executeTakeFirstOrThrow()
      if (Number(open) >= limit) return false
      const row = { id, challenge: JSON.stringify(challenge), expires_at: expiresAt, used_at: null }
      await tx.insertInto('wallet_challenges').values(row).execute()
      return true
    })
  }

  async challenge(id: string): ReturnType<IdentityStore['challenge']> {
    const row = await this.#db.selectFrom('wallet_challenges').selectAll().where('id', '=', id).executeTakeFirst()
    if (!row) return null
    const proofs = await this.#db
      .selectFrom('challenge_proofs')
      .select(['device_id as device', 'signature'])
      .where('challenge_id', '=', id)
      .orderBy('device_id')
      .execute()
    return { ...readJson(recordSchema, row.challenge, `Challenge ${id}`), usedAt: row.used_at, proofs }
  }

  async addProof(challengeId: string, { device, signature }: DeviceProof): Promise<void> {
    await this.#db
      .insertInto('challenge_proofs')
      .values({ challenge_id: challengeId, device_id: device, signature })
      .onConflict((conflict) => conflict.columns(['challenge_id', 'device_id']).doUpdateSet({ signature }))
      .execute()
  }

  async bind(signed: Signed): Promise<BindingRecord[]> {
    const { challenge, evidence, at } = signed
    const { walletId } = challenge
    return this.#db.transaction().execute(async (tx) => {
      await use(tx, signed)
      const bound: BindingRecord[] = []
      for (const deviceId of challenge.devices) {
        const known = await bindingIn(tx, deviceId)
        if (known?.revokedAt != null) throw new SkeinError(deviceRevoked(deviceId))
        if (known && known.walletId !== walletId)
          fail(
            'identity.device_bound',
            `The device ${deviceId} belongs to another wallet.`,
            'Sign with that wallet, or revoke the device there and contribute with a new key.',
          )
        const fresh = { deviceId, walletId, proof: evidence.hash, boundAt: at, revokedAt: null }
        bound.push(known ?? fresh)
        if (known) continue
        const row = { device_id: deviceId, wallet_id: walletId, proof: evidence.hash, bound_at: at, revoked_at: null }
        await tx.insertInto('bindings').values(row).execute()
        await enter(tx, { kind: 'bind', device: deviceId, wallet: walletId, proof: evidence.hash })
      }
      return bound
    })
  }

  async revoke(signed: Signed): Promise<BindingRecord[]> {
    const { challenge, at } = signed
    return this.#db.transaction().execute(async (tx) => {
      await use(tx, signed)
      const revoked: BindingRecord[] = []
      for (const deviceId of challenge.devices) {
        const known = await bindingIn(tx, deviceId)
        if (known?.walletId !== challenge.walletId)
          return fail(
            'identity.not_bound',
            `The device ${deviceId} does not belong to this wallet.`,
            'Sign with the wallet that the device is bound to.',
          )
        revoked.push({ ...known, revokedAt: known.revokedAt ?? at })
        if (known.revokedAt !== null) continue
        await tx.updateTable('bindings').set({ revoked_at: at }).where('device_id', '=', deviceId).execute()
        await enter(tx, { kind: 'revoke', device: deviceId })
      }
      return revoked
    })
  }

  binding(deviceId: string): Promise<BindingRecord | null> {
    return bindingIn(this.#db, deviceId)
  }

  async bindingsOf(walletId: string, limit: number): Promise<BindingRecord[]> {
    const rows = await this.#db
      .selectFrom('bindings')
      .selectAll()
      .where('wallet_id', '=', walletId)
      .orderBy('bound_at', 'desc')
      .orderBy('device_id')
      .limit(limit)
      .execute()
    return rows.map(bindingOf)
  }

  async evidence(hash: string): Promise<string | null> {
    const query = this.#db.selectFrom('identity_evidence').select('body').where('hash', '=', hash)
    return (await query.executeTakeFirst())?.body ?? null
  }

  async entries(limit: number): Promise<{ id: number; entry: IdentityEntry }[]> {
    const rows = await this.#db.selectFrom('identity_entries').selectAll().orderBy('id').limit(limit).execute()
    return rows.map(({ id, entry }) => ({ id, entry: readJson(entrySchema, entry, `Identity entry ${id}`) }))
  }

  async dropEntry(id: number): Promise<void> {
    await this.#db.deleteFrom('identity_entries').where('id', '=', id).execute()
  }
}

async function bindingIn(db: Kysely<IdentityTables>, deviceId: string): Promise<BindingRecord | null> {
  const row = await db.selectFrom('bindings').selectAll().where('device_id', '=', deviceId).executeTakeFirst()
  return row ? bindingOf(row) : null
}

/** A challenge does one thing once; what was signed is kept with it. */
async function use(tx: Transaction<IdentityTables>, { challenge, evidence, at }: Signed): Promise<void> {
  const result = await tx
    .updateTable('wallet_challenges')
    .set({ used_at: at })
    .where('id', '=', challenge.id)
    .where('used_at', 'is', null)
    .executeTakeFirst()
  if (result.numUpdatedRows === 0n) throw new SkeinError(CHALLENGE_USED)
  await tx
    .insertInto('identity_evidence')
    .values({ ...evidence })
    .onConflict((conflict) => conflict.column('hash').doNothing())
    .execute()
}

async function enter(tx: Transaction<IdentityTables>, entry: IdentityEntry): Promise<void> {
  await tx
    .insertInto('identity_entries')
    .values({ entry: JSON.stringify(entry) })
    .execute()
}
