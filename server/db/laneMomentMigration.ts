/** Owns the leaving of moments that lanes began from before they shared both of AdamW's: kept otherwise, they say something else. */
import type { Kysely } from 'kysely'
import type { Migration } from 'kysely/migration'

interface Stored {
  runs: { id: string; config: string }
  checkpoints: { run_id: string; step: number; stages: string }
}

/** Lanes of these runs begin once from moments of zero; weights and outer momentum stay. */
export const laneMoments: Migration = {
  async up(db: Kysely<unknown>) {
    const stored = db as Kysely<Stored>
    for (const { id, config } of await stored.selectFrom('runs').select(['id', 'config']).execute()) {
      const { sync, optimizer } = JSON.parse(config) as { sync?: string; optimizer?: { kind?: string } }
      if (sync !== 'local' || optimizer?.kind !== 'muon') continue
      const checkpoints = await stored
        .selectFrom('checkpoints')
        .select(['step', 'stages'])
        .where('run_id', '=', id)
        .execute()
      for (const { step, stages } of checkpoints) {
        const kept = (JSON.parse(stages) as { chunks: { kind: string }[] }[]).map((stage) => ({
          ...stage,
          chunks: stage.chunks.filter(({ kind }) => kind !== 'secondMoment'),
        }))
        await stored
          .updateTable('checkpoints')
          .set({ stages: JSON.stringify(kept) })
          .where('run_id', '=', id)
          .where('step', '=', step)
          .execute()
      }
    }
  },
}
