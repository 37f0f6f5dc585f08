/** Owns the constants of the network between nodes: sizes, deadlines and caps, in one place. */
import { FRAME_HEADER_BYTES, MAX_FRAME_PAYLOAD_BYTES } from '../protocol/frame.ts'

/** Largest message every WebRTC stack in use takes. */
export const MAX_SLICE_BYTES = 256 * 1024
/** Small frames go in small slices: on a long link the first bytes arrive in half the time. */
export const SMALL_SLICE_BYTES = 64 * 1024
export const LARGE_SLICE_BYTES = 224 * 1024
/** Frames up to this size are small. */
export const SMALL_FRAME_BYTES = 1024 * 1024
export const MAX_FRAME_BYTES = FRAME_HEADER_BYTES + MAX_FRAME_PAYLOAD_BYTES

/** Frames of one link that may be half received, and their bytes together. */
export const MAX_PARTIAL_FRAMES = 8
export const MAX_PARTIAL_BYTES = MAX_FRAME_BYTES + 64 * 1024 * 1024
/** A half-received frame that got nothing for this long is given up. */
export const STALE_PARTIAL_MS = 60_000

/** Bytes waiting in one link before `send` refuses more: the caller ignores back-pressure. */
export const MAX_QUEUED_BYTES = 2 * MAX_FRAME_BYTES
/** A channel takes slices until this many bytes wait in it, and asks for more below the lower mark. */
export const HIGH_WATER_BYTES = 2 * 1024 * 1024
export const LOW_WATER_BYTES = 512 * 1024

/** From the dial to both ends saying that they listen. */
export const DIAL_DEADLINE_MS = 15_000
/** How long ICE may say `disconnected` before the link counts as lost. */
export const ICE_GRACE_MS = 5_000
/** From opening the broker's socket to its OPEN. */
export const BROKER_DEADLINE_MS = 10_000
/** First and longest pause before a new dial; doubled in between. */
export const REDIAL_FIRST_MS = 250
export const REDIAL_LONGEST_MS = 8_000
/** Of two nodes that want each other the one with the greater id waits so long for the other's dial before it dials itself. */
export const YIELD_MS = 1_000
/** How long a frame waits for a link to the node it is for, and how many bytes do so for all nodes together. */
export const ROUTE_DEADLINE_MS = 10_000
export const MAX_WAITING_BYTES = MAX_FRAME_BYTES
/** A link that nobody hinted at is closed when nothing passed for so long. */
export const IDLE_MS = 60_000
/** Everything sent so long ago has arrived: such a link is no loss. */
export const QUIET_MS = 30_000
/** The same for the one of two links to one node that is not used any more. */
export const SPARE_IDLE_MS = 5_000
/** Links, opening ones included: of this node, and of it with one other. Hints are followed up to half of the former. */
export const MAX_LINKS = 256
export const MAX_LINKS_WITH_NODE = 4
/** How often the round trip of a link is measured, and over how many times the shortest counts. */
export const PING_MS = 5_000
export const PINGS_REMEMBERED = 6
