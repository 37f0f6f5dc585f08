/** Proves that the sum of lanes does not depend on who had them, and that a share is as long as it says. */
import { expect, it } from 'vitest'
import { counterDither, encodeGroups } from '../../../src/codec/groups.ts'
import { lanesOf, shareBytes, sumShares, writeShare } from '../../../src/stage/laneShares.ts'
import { noise } from '../../kernels/gpu.ts'

const LENGTH = 99
const change = (lane: number) => encodeGroups('int8', noise(LENGTH, lane, 10 ** -lane), counterDither(lane))
const summed = (shares: Uint8Array[]) => sumShares('int8', shares, LENGTH, counterDither)
const shareOf = (...lanes: number[]) => writeShare(new Map(lanes.map((lane) => [lane, change(lane)])))

it('is the same to the bit however lanes are parted, and in whatever order shares come', () => {
  const alone = summed([shareOf(0, 1, 2, 3, 4)])
  expect(summed([shareOf(3, 0), shareOf(4), shareOf(2, 1)])).toEqual(alone)
  expect(summed([shareOf(1), shareOf(4, 2, 0), shareOf(3)])).toEqual(alone)
  expect(summed([shareOf(1), shareOf(4, 2, 0)])).not.toEqual(alone)
})

it('reads a share from wherever it lies', () => {
  const share = shareOf(0, 1)
  const shifted = new Uint8Array(share.length + 3)
  shifted.set(share, 3)
  expect(summed([shifted.subarray(3)])).toEqual(summed([share]))
})

it('holds whole lanes', () => {
  const { byteLength } = shareOf(0, 1, 2)
  expect(byteLength).toBe(shareBytes('int8', 3, LENGTH))
  expect(lanesOf('int8', byteLength, LENGTH)).toBe(3)
  expect(lanesOf('int8', byteLength - 1, LENGTH)).toBe(0)
  expect(lanesOf('int4', byteLength, LENGTH)).toBe(0)
})
