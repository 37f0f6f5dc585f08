/** Owns what is checked before a device is asked to work: what the browser can do, and what it may be asked to hold. */
import type { ErrorBody } from '../protocol/errors.ts'

const GIB = 1024 ** 3

export interface PreflightFacts {
  secureContext: boolean
  webgpu: boolean
  webrtc: boolean
  /** Web Locks and module Workers: every browser with WebGPU has them. */
  locks: boolean
  /** What `navigator.deviceMemory` says, in GiB; null where the browser keeps it to itself. */
  deviceMemoryGiB: number | null
}

/** Reads this page's globals. */
export function readFacts(): PreflightFacts {
  const { deviceMemory } = navigator as Navigator & { deviceMemory?: number }
  return {
    secureContext: isSecureContext,
    webgpu: 'gpu' in navigator,
    webrtc: typeof RTCPeerConnection !== 'undefined',
    locks: 'locks' in navigator && typeof Worker !== 'undefined',
    deviceMemoryGiB: deviceMemory ?? null,
  }
}

/** The first thing that stands in the way, or null. */
export function checkFacts(facts: PreflightFacts): ErrorBody | null {
  if (!facts.secureContext) {
    return {
      code: 'page.insecure',
      message: 'This page came over plain HTTP, where browsers offer no WebGPU.',
      remedy: 'Open it over https://, or over http://localhost on the machine that serves it.',
    }
  }
  if (!facts.webgpu || !facts.locks) {
    return {
      code: 'gpu.unavailable',
      message: 'This browser has no WebGPU.',
      remedy:
        'Use a current Chrome, Edge, Firefox or Safari; on Linux, WebGPU may need to be switched on in its settings.',
    }
  }
  if (!facts.webrtc) {
    return {
      code: 'net.no_webrtc',
      message: 'This browser has no WebRTC, or an extension or policy has switched it off.',
      remedy: 'Allow WebRTC for this page, or use another browser.',
    }
  }
  return null
}

/**
 * Bytes to offer. No browser says how much memory a GPU has (`maxBufferSize` is not memory), and a tab that takes too much
 * is killed: so half of what the machine has, as far as the browser says (it stops counting at 8 GiB or so), 1 GiB where
 * it says nothing, and never over 4 GiB.
 */
export function memoryOffered(deviceMemoryGiB: number | null): number {
  if (deviceMemoryGiB === null || !(deviceMemoryGiB > 0)) return GIB
  return Math.min(4 * GIB, Math.floor((deviceMemoryGiB / 2) * GIB))
}

/** True when the page's address says that a software adapter is fine: `?adapter=software`. */
export function softwareAllowedBy(search: string): boolean {
  return new URLSearchParams(search).get('adapter') === 'software'
}

/** True when the page's address asks to keep data channels in the page: `?channels=forward`. */
export function forwardingAskedBy(search: string): boolean {
  return new URLSearchParams(search).get('channels') === 'forward'
}
