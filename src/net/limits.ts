/** Owns the constants of the network between nodes: sizes, deadlines and caps, in one place. */
import { FRAME_HEADER_BYTES, MAX_FRAME_PAYLOAD_BYTES } from '../protocol/frame.ts'

/** Largest message every WebRTC stack in use takes. */
export const MAX_SLICE_BYTES = 256 * 1024
/**
 * A slice at most, with its header: four packets, of 1,160 bytes in Chromium's SCTP (dcsctp), of 1,156 in an agent's (usrsctp). The
 * former puts no more than that on the line for one message that it is given, even where its window is empty; the rest waits for
 * the next acknowledgement, a whole round trip. A fifth packet with a few bytes costs the latter as much as a full one.
 */
export const SLICE_BYTES = 4 * 1156
/** A receiver that has acknowledged lately waits for so many bytes, or so long, until it does again: each answer is a packet too. */
export const ACKNOWLEDGED_BYTES = 3 * SLICE_BYTES
export const ACKNOWLEDGED_MS = 5
export const MAX_FRAME_BYTES = FRAME_HEADER_BYTES + MAX_FRAME_PAYLOAD_BYTES

/** Frames of one link that may be half received, and the bytes of theirs that have come. */
export const MAX_PARTIAL_FRAMES = 2048
export const MAX_PARTIAL_BYTES = MAX_FRAME_BYTES + 64 * 1024 * 1024
/** A half-received frame that got nothing for this long is given up. */
export const STALE_PARTIAL_MS = 60_000

/** Bytes waiting in one link before `send` refuses more: the caller ignores back-pressure. */
export const MAX_QUEUED_BYTES = 2 * MAX_FRAME_BYTES
/**
 * Bytes put on one connection in so many milliseconds and not acknowledged. Chromium's socket holds 64 KiB that the operating system
 * has not taken (`kMaximumInFlightBytes`), and throws away what more it is given; its SCTP may then recover at fifteen packets a
 * second, for many seconds.
 */
export const BURST_BYTES = 48 * 1024
export const BURST_MS = 4
/** Bytes under way on one connection: before its line is known, when it is slow, and at most. */
export const FIRST_WINDOW_BYTES = BURST_BYTES
export const LEAST_WINDOW_BYTES = ACKNOWLEDGED_BYTES + SLICE_BYTES
export const LARGEST_WINDOW_BYTES = 4 * 1024 * 1024
/** Connections of one link: SCTP recovers from a lost packet slowly on a long line, and only the connection that lost it. */
export const STRANDS = 6
/** A line with a shorter round trip needs one alone. */
export const STRIPING_RTT_MS = 5

/** From the dial to both ends saying that they listen. */
export const DIAL_DEADLINE_MS = 15_000
/** A connection that has not opened for so long lets the relay be tried beside it; the next try, where that failed. */
export const RELAY_AFTER_MS = 4_000
export const RELAY_RETRY_FIRST_MS = 5_000
export const RELAY_RETRY_LONGEST_MS = 60_000
/** How often a link through the server looks for a shorter way. */
export const SHORTER_WAY_MS = 60_000
/** After how long a link that ICE took through TURN is first dialled directly, and how often where that does not open. */
export const DIRECT_AFTER_MS = 10_000
export const DIRECT_RETRY_FIRST_MS = 20_000
export const DIRECT_RETRY_LONGEST_MS = 600_000
/** How long ICE may say `disconnected` before the link counts as lost. */
export const ICE_GRACE_MS = 5_000
/** Slices that nothing acknowledges for so long: another connection is sought, and then this one is given up. */
export const STALL_MS = 4_000
export const STALLED_MS = 12_000
/** The handshake's last word has arrived so long after it was sent, though nothing came back. */
export const CONFIRMED_MS = 3_000
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
/** Where all connections are taken, a link that was idle for so long makes room. */
export const SPARE_IDLE_MS = 5_000
/** Connections, opening ones included: of this node, and of it with one other. Hints are followed up to half of the former. */
export const MAX_STRANDS = 256
export const MAX_STRANDS_WITH_NODE = 12
