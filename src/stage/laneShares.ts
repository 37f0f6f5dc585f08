/** Owns the share of a node in a merge of local steps: for each of its lanes a number and what the lane changed, encoded. */
import { decodeGroups, type Dither, groupedBytes } from '../codec/groups.ts'
import type { MergeCodec } from '../protocol/runConfig.ts'

type Bytes = Uint8Array<ArrayBufferLike>

const LANE_BYTES = 4

/** Bytes of the share of `lanes` lanes of a shard, `length` numbers of each. */
export function shareBytes(codec: MergeCodec, lanes: number, length: number): number {
  return lanes * (LANE_BYTES + groupedBytes(codec, length))
}

/** Lanes in a share of that many bytes; 0 if no whole number of lanes has that size. */
export function lanesOf(codec: MergeCodec, bytes: number, length: number): number {
  const lanes = bytes / shareBytes(codec, 1, length)
  return Number.isInteger(lanes) ? lanes : 0
}

/** @param changes by lane, as `encodeGroups` gives them */
export function writeShare(changes: ReadonlyMap<number, Uint8Array>): Uint8Array<ArrayBuffer> {
  const lanes = [...changes].sort(([a], [b]) => a - b)
  const share = new Uint8Array(lanes.reduce((sum, [, bytes]) => sum + LANE_BYTES + bytes.byteLength, 0))
  const view = new DataView(share.buffer)
  let at = 0
  for (const [lane, bytes] of lanes) {
    view.setUint32(at, lane, true)
    share.set(bytes, at + LANE_BYTES)
    at += LANE_BYTES + bytes.byteLength
  }
  return share
}

/**
 * The sum of all lanes of some shares, f32, lane by lane in ascending order: the same bits however the lanes were parted among
 * nodes.
 * @param shares of whole lanes, as their frames were checked to be
 * @param ditherOf what a lane's change was encoded with
 */
export function sumShares(
  codec: MergeCodec,
  shares: readonly Bytes[],
  length: number,
  ditherOf: (lane: number) => Dither,
): Float32Array<ArrayBuffer> {
  const each = shareBytes(codec, 1, length)
  const lanes = shares.flatMap((share) => {
    const view = new DataView(share.buffer, share.byteOffset, share.byteLength)
    return Array.from({ length: share.byteLength / each }, (_, i) => {
      const at = i * each
      return { lane: view.getUint32(at, true), bytes: share.subarray(at + LANE_BYTES, at + each) }
    })
  })
  const sum = new Float32Array(length)
  for (const { lane, bytes } of lanes.sort((a, b) => a.lane - b.lane)) {
    const change = decodeGroups(codec, bytes, length, ditherOf(lane))
    for (let i = 0; i < length; i++) sum[i]! += change[i]!
  }
  return sum
}
