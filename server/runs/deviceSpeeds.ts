/** Owns how fast devices were in the steps that they had part in. */
import type { WorkCredit } from '../../src/protocol/receipt.ts'

/** Devices remembered, those that worked last. */
const KEPT = 20_000

export class DeviceSpeeds {
  /** Model FLOPs a second, by device. */
  readonly #speeds = new Map<string, number>()

  /** Waiting for others within the step counts: that is what a run gets out of its devices. */
  committed(work: readonly WorkCredit[], durationMs: number): void {
    if (durationMs <= 0) return
    const earned = new Map<string, bigint>()
    for (const { device, credit } of work) earned.set(device, (earned.get(device) ?? 0n) + BigInt(credit))
    for (const [device, credit] of earned) {
      const now = (1000 * Number(credit)) / durationMs
      const before = this.#speeds.get(device)
      this.#speeds.delete(device)
      this.#speeds.set(device, before === undefined ? now : (before + now) / 2)
    }
    for (const device of this.#speeds.keys()) {
      if (this.#speeds.size <= KEPT) return
      this.#speeds.delete(device)
    }
  }

  /** Null while it had no part in any step since the server started. */
  of(device: string): number | null {
    return this.#speeds.get(device) ?? null
  }
}
