/** Owns the tables of identities. */
import { sql } from 'kysely'
import type { Generated, Kysely } from 'kysely'
import type { Migration } from 'kysely/migration'

export const identity: Migration = {
  async up(db: Kysely<unknown>) {
    await db.schema
      .createTable('wallet_challenges')
      .addColumn('id', 'text', (c) => c.primaryKey())
      .addColumn('challenge', 'text', (c) => c.notNull().check(sql`json_valid(challenge)`))
      .addColumn('expires_at', 'integer', (c) => c.notNull())
      .addColumn('used_at', 'integer')
      .execute()
    await db.schema
      .createTable('challenge_proofs')
      .addColumn('challenge_id', 'text', (c) => c.notNull().references('wallet_challenges.id').onDelete('cascade'))
      .addColumn('device_id', 'text', (c) => c.notNull())
      .addColumn('signature', 'text', (c) => c.notNull())
      .addPrimaryKeyConstraint('challenge_proofs_key', ['challenge_id', 'device_id'])
      .execute()
    await db.schema
      .createIndex('wallet_challenges_by_expiry')
      .on('wallet_challenges')
      .columns(['expires_at', 'used_at'])
      .execute()
    await db.schema
      .createTable('identity_evidence')
      .addColumn('hash', 'text', (c) => c.primaryKey())
      .addColumn('body', 'text', (c) => c.notNull())
      .execute()
    await db.schema
      .createTable('bindings')
      .addColumn('device_id', 'text', (c) => c.primaryKey())
      .addColumn('wallet_id', 'text', (c) => c.notNull())
      .addColumn('proof', 'text', (c) => c.notNull().references('identity_evidence.hash'))
      .addColumn('bound_at', 'integer', (c) => c.notNull())
      .addColumn('revoked_at', 'integer')
      .execute()
    await db.schema.createIndex('bindings_by_wallet').on('bindings').columns(['wallet_id', 'bound_at']).execute()
    await db.schema
      .createTable('identity_entries')
      .addColumn('id', 'integer', (c) => c.primaryKey().autoIncrement())
      .addColumn('entry', 'text', (c) => c.notNull().check(sql`json_valid(entry)`))
      .execute()
  },
}

/** The tables as Kysely sees them. */
export interface IdentityTables {
  wallet_challenges: {
    id: string
    /** JSON of a `ChallengeRecord`. */
    challenge: string
    expires_at: number
    used_at: number | null
  }
  challenge_proofs: { challenge_id: string; device_id: string; signature: string }
  bindings: { device_id: string; wallet_id: string; proof: string; bound_at: number; revoked_at: number | null }
  identity_evidence: { hash: string; body: string }
  /** Waiting for the ledger. */
  identity_entries: { id: Generated<number>; entry: string }
}
