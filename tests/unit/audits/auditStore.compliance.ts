/** Owns what every store of audits must do, whichever database keeps it. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { freshStanding } from '../../../server/audits/policy.ts'
import type { Standing } from '../../../server/audits/types.ts'
import type { AuditStore, Closing, NewAudit } from '../../../server/db/auditStore.ts'
import type { Store } from '../../../server/db/store.ts'
import type { AuditDistance } from '../../../src/protocol/auditApi.ts'
import type { LedgerEntry } from '../../../src/protocol/ledger.ts'
import { checkpoint, dataset, run } from '../server/store.compliance.ts'

type AuditedStore = Store & { readonly audits: AuditStore }

export interface OpenAudits {
  store: AuditedStore
  /** The same database, opened anew; the one before is closed. */
  reopen(): Promise<AuditedStore>
  clean(): Promise<void>
}

const device = (n: number) => n.toString(16).padStart(64, '0')
/** FLOPs of a recomputation: three of them are beyond what doubles and SQLite's integers add up exactly. */
const CREDIT = 2n ** 63n + 1n
const audit = (n: number, more: Partial<NewAudit> = {}): NewAudit => ({
  ...{ id: `${n}`.padStart(64, 'a'), run: 'r1', generation: 2, step: 10 + n, stage: 1, claimant: device(1) },
  ...{ receipt: device(100 + n), microbatches: 4, shown: { microbatch: 7, shard: 0 }, credit: String(CREDIT) },
  openedAt: 1000 + n,
  ...more,
})
const standing = (more: Partial<Standing> = {}): Standing => ({ ...freshStanding(), ...more })
const distance: AuditDistance = { tensor: 'activation', quantile: 'upper', distance: null, tolerance: 0.018 }
const conviction = { device: device(1), run: 'r1', fromStep: 3, toStep: 11, at: 2000, reason: 'zeros' }
const convictionRow = (): LedgerEntry => {
  const { at: _, ...same } = conviction
  return { kind: 'conviction', ...same, credit: '0' }
}

const closing = (n: number, more: Partial<Closing> = {}): Closing => ({
  ...{ id: audit(n).id, verdict: 'passed', reason: '', distances: [distance], convictions: [], entries: [] },
  jurors: [
    { device: device(2), answered: true },
    { device: device(3), answered: false },
  ],
  standings: new Map([[device(1), standing({ passed: n })]]),
  after: 0,
  at: 2000,
  ...more,
})

export function describeAuditStore(name: string, open: () => Promise<OpenAudits>): void {
  describe(name, () => {
    let opened: OpenAudits
    let store: AuditedStore
    beforeEach(async () => {
      opened = await open()
      store = opened.store
      await store.insertDataset(dataset())
      await store.insertRun(run(), checkpoint())
    })
    afterEach(() => opened.clean())

    it('begins with nobody known and nothing drawn', async () => {
      expect(await store.audits.standings()).toEqual(new Map())
      expect(await store.audits.convictions()).toEqual([])
      expect(await store.audits.incident()).toBeNull()
      expect(await store.audits.audits({ run: null, device: null }, null, 10)).toEqual([])
      const none = { audits: 0, passed: 0, convicted: 0, open: 0, recomputed: 0n }
      expect(await store.audits.totals({ run: null, device: null })).toEqual(none)
    })

    it('keeps an audit from its draw to its end, with what was found, over a reopening', async () => {
      await store.audits.open(audit(1))
      const under = { ...audit(1), number: 1, verdict: null, reason: '', jurors: [], distances: [], closedAt: null }
      expect(await store.audits.audits({ run: 'r1', device: null }, null, 10)).toEqual([under])
      await store.audits.close(closing(1))
      const again = await opened.reopen()
      const { jurors, distances } = closing(1)
      const ended = { ...under, verdict: 'passed', jurors, distances, closedAt: 2000 }
      expect(await again.audits.audits({ run: 'r1', device: null }, null, 10)).toEqual([ended])
      expect(await again.audits.standings()).toEqual(new Map([[device(1), standing({ passed: 1 })]]))
    })

    it('closes an audit once', async () => {
      await store.audits.open(audit(1))
      await store.audits.close(closing(1))
      const again = closing(1, {
        verdict: 'convicted',
        standings: new Map([[device(1), standing({ convictions: 1 })]]),
      })
      await expect(store.audits.close(again)).rejects.toMatchObject({ code: 'audit.closed' })
      await expect(store.audits.close(closing(2))).rejects.toMatchObject({ code: 'audit.closed' })
      expect((await store.audits.standings()).get(device(1))).toEqual(standing({ passed: 1 }))
    })

    it('keeps a verdict with its rows of the ledger, or neither', async () => {
      await store.ledger.append([{ kind: 'price', run: 'r1', planckPerPflop: '1' }], 1)
      const shut = standing({
        convictions: 1,
        shutUntil: 99_000,
        cleared: new Map([['r1', 2]]),
        unshown: 3,
        watched: 4,
      })
      const convicted: Partial<Closing> = {
        ...{ verdict: 'convicted', reason: 'zeros', convictions: [conviction], entries: [convictionRow()] },
        standings: new Map([[device(1), shut]]),
      }
      await store.audits.open(audit(1))
      const stale = store.audits.close(closing(1, { ...convicted, after: 0 }))
      await expect(stale).rejects.toMatchObject({ code: 'ledger.moved' })
      expect(await store.audits.convictions()).toEqual([])
      expect((await store.audits.audits({ run: null, device: null }, null, 1))[0]!.verdict).toBeNull()
      await store.audits.close(closing(1, { ...convicted, after: 1 }))
      const again = await opened.reopen()
      expect(await again.audits.convictions()).toEqual([conviction])
      expect(await again.audits.standings()).toEqual(new Map([[device(1), shut]]))
      expect((await again.ledger.rows(2, 9)).map(({ entry }) => JSON.parse(entry) as LedgerEntry)).toEqual([
        convictionRow(),
      ])
    })

    it('leaves open what was under way when the server went', async () => {
      for (const n of [1, 2, 3]) await store.audits.open(audit(n, { claimant: device(n % 2) }))
      await store.audits.close(closing(3))
      const again = await opened.reopen()
      expect(await again.audits.interrupt('Started again.', 5000)).toEqual([device(1), device(0)])
      expect(await again.audits.interrupt('Started again.', 6000)).toEqual([])
      const listed = await again.audits.audits({ run: 'r1', device: null }, null, 10)
      expect(listed.map(({ verdict, reason, closedAt }) => [verdict, reason, closedAt])).toEqual([
        ['passed', '', 2000],
        ['open', 'Started again.', 5000],
        ['open', 'Started again.', 5000],
      ])
    })

    it('lists by run and by claimant, newest first, a page at a time, and adds up exactly', async () => {
      await store.insertRun(run('r2'), { ...checkpoint(), runId: 'r2' })
      for (const n of [1, 2, 3, 4]) {
        await store.audits.open(audit(n, { run: n === 4 ? 'r2' : 'r1', claimant: device(n === 3 ? 9 : 1) }))
        await store.audits.close(closing(n, { verdict: n === 2 ? 'open' : 'passed' }))
      }
      const steps = async (filter: { run?: string; device?: string }, before: number | null = null, limit = 10) =>
        (await store.audits.audits({ run: null, device: null, ...filter }, before, limit)).map(({ step }) => step)
      expect(await steps({})).toEqual([14, 13, 12, 11])
      expect(await steps({ run: 'r1' })).toEqual([13, 12, 11])
      expect(await steps({ run: 'r1', device: device(1) })).toEqual([12, 11])
      expect(await steps({}, 4, 2)).toEqual([13, 12])
      const totals = await store.audits.totals({ run: 'r1', device: null })
      expect(totals).toEqual({ audits: 3, passed: 2, convicted: 0, open: 1, recomputed: 3n * CREDIT })
    })

    it('keeps standings by themselves, each as it was told last', async () => {
      await store.audits.keepStandings(new Map([[device(1), standing({ watched: 4 })]]))
      await store.audits.keepStandings(new Map([[device(1), standing({ watched: 3 })], [device(2), standing()]])) // prettier-ignore
      expect((await store.audits.standings()).get(device(1))!.watched).toBe(3)
    })

    it('keeps the incident that is on, and waives convictions since, with the rows', async () => {
      await store.audits.open(audit(1))
      const early = { ...conviction, at: 1500 }
      const other = { ...conviction, device: device(5) }
      await store.audits.close(closing(1, { verdict: 'convicted', convictions: [early, conviction, other] }))
      await store.audits.declareIncident({ reason: 'first', since: 1, declaredAt: 2 })
      const incident = { reason: 'a bad build', since: 1800, declaredAt: 2500 }
      await store.audits.declareIncident(incident)
      const waiver: LedgerEntry = { kind: 'waiver', device: device(1), reason: 'a bad build', since: 1800 }
      const standings = new Map([[device(1), standing({ convictions: 1 })]])
      await store.audits.waive({ standings, since: 1800, entries: [waiver], after: 0, at: 2500 })
      const again = await opened.reopen()
      expect(await again.audits.incident()).toEqual(incident)
      expect(await again.audits.convictions()).toEqual([early, other])
      expect(await again.ledger.rows(1, 9)).toHaveLength(1)
      await again.audits.endIncident(3000)
      expect(await again.audits.incident()).toBeNull()
    })
  })
}
