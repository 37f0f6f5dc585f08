/** Owns what the volunteer needs from the page it lives in; tests put their own in its place. */
import { openDevice, type DeviceStore } from '../store/device.ts'
import { openReceipts, type ReceiptStore } from '../store/receipts.ts'
import { seekLeadership, type LeadershipEvents } from './leader.ts'
import { readFacts, type PreflightFacts } from './preflight.ts'
import { startStageProcess, type StageProcess, type StageProcessOptions } from './stageProcess.ts'

export interface VolunteerEnvironment {
  /** Of the page itself. */
  address(): { origin: string; search: string }
  facts(): PreflightFacts
  openDevice(): Promise<DeviceStore>
  openReceipts(): Promise<Pick<ReceiptStore, 'add'>>
  /** Returns how to give leadership up. */
  seekLeadership(events: LeadershipEvents): () => void
  startStage(options: StageProcessOptions): StageProcess
  /** Unix milliseconds. */
  now(): number
  /** Calls `run` after `ms`, unless the returned function was called before. */
  after(ms: number, run: () => void): () => void
  /** The page goes away (closed, reloaded, frozen for the back button), or comes back out of that freeze. */
  onPage(events: { hidden(): void; restored(): void }): void
}

export const browserEnvironment: VolunteerEnvironment = {
  address: () => ({ origin: location.origin, search: location.search }),
  facts: readFacts,
  openDevice: () => openDevice(),
  openReceipts: () => openReceipts(),
  seekLeadership: (events) => seekLeadership(events),
  startStage: startStageProcess,
  now: () => Date.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms)
    return () => clearTimeout(timer)
  },
  onPage({ hidden, restored }) {
    addEventListener('pagehide', hidden)
    addEventListener('pageshow', (event) => event.persisted && restored())
  },
}
