/** Proves what stops a device before it is asked to work, and what memory it is asked for. */
import { describe, expect, it } from 'vitest'
import { checkFacts, forwardingAskedBy, memoryOffered, softwareAllowedBy } from '../../../src/volunteer/preflight.ts'

const fine = { secureContext: true, webgpu: true, webrtc: true, locks: true, deviceMemoryGiB: 8 }
describe('preflight', () => {
  it('names the first obstacle and a remedy', () => {
    expect(checkFacts(fine)).toBeNull()
    // An insecure page has no WebGPU either; the cause is what is told.
    expect(checkFacts({ ...fine, secureContext: false, webgpu: false })?.code).toBe('page.insecure')
    expect(checkFacts({ ...fine, webgpu: false })?.code).toBe('gpu.unavailable')
    expect(checkFacts({ ...fine, webrtc: false })?.code).toBe('net.no_webrtc')
    expect(checkFacts({ ...fine, webrtc: false })?.remedy).not.toBe('')
  })

  it('reads what the address allows', () => {
    expect(softwareAllowedBy('?adapter=software')).toBe(true)
    expect(softwareAllowedBy('?adapter=hardware')).toBe(false)
    expect(forwardingAskedBy('?start=1&channels=forward')).toBe(true)
    expect(forwardingAskedBy('')).toBe(false)
  })

  it('offers half the memory, never over 4 GiB, and 1 GiB where nothing is known', () => {
    const GIB = 1024 ** 3
    expect([null, 0, Number.NaN, 0.5, 4, 8, 32].map(memoryOffered)).toEqual(
      [1, 1, 1, 0.25, 2, 4, 4].map((n) => n * GIB),
    )
  })
})
