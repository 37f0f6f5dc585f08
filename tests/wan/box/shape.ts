/** Owns how a line of the box is described: in the units people use, and in the router's. */

/** One direction of a host's line to the core of the network. */
export interface Direction {
  /** Megabits (10^6) a second of whole IP packets; left out: unconstrained. */
  mbit?: number
  /** Milliseconds that a packet travels. */
  delayMs?: number
  /** Milliseconds of packets, at full rate, that wait before one is dropped. */
  queueMs?: number
  /** Share of packets lost, 0 to 1. */
  loss?: number
}

export interface LineShape {
  up?: Direction
  down?: Direction
}

export interface RouterShape {
  bytesPerSecond: number | null
  delay: number
  queueBytes: number
  loss: number
}

/** A slow line's queue still holds so many packets. */
const LEAST_QUEUED_BYTES = 32 * 1500

export function routerShape({ mbit, delayMs = 0, queueMs = 60, loss = 0 }: Direction = {}): RouterShape {
  const bytesPerSecond = mbit === undefined ? null : (mbit * 1e6) / 8
  const queueBytes = Math.max(LEAST_QUEUED_BYTES, ((bytesPerSecond ?? 0) * queueMs) / 1000)
  return { bytesPerSecond, delay: delayMs / 1000, queueBytes, loss }
}

/** The line of each of two hosts between which a round trip takes `rttMs`: a quarter of it in each direction of each line. */
export function homeLine(rttMs: number, mbit?: number, more: Direction = {}): LineShape {
  const direction = { ...more, delayMs: rttMs / 4, ...(mbit !== undefined && { mbit }) }
  return { up: direction, down: direction }
}
