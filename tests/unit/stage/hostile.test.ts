/** Proves that a hostile neighbour's bytes, whatever they are, end neither a node nor its work, and that the server hears whose they were. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { PeerLinks } from '../../../src/net/peerLinks.ts'
import { SLICE_HEADER_BYTES } from '../../../src/net/slicing.ts'
import {
  encodeFrame,
  FRAME_CODECS,
  FRAME_HEADER_BYTES,
  FRAME_KINDS,
  type FrameHeader,
} from '../../../src/protocol/frame.ts'
import { generator } from '../net/random.ts'
import { Page } from '../net/page.ts'
import { assignment, boundary, generation, PlayedWorker, settled, stepMessage } from './playedWorker.ts'

/** SKEIN_FUZZ=1000000 for a long run; the seed replays it. */
const FRAMES = Number(process.env.SKEIN_FUZZ ?? 50_000)
const SEED = Number(process.env.SKEIN_FUZZ_SEED ?? 1)
const MIB = 1024 * 1024

let worker: PlayedWorker
let page: Page
let links: PeerLinks

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] })
  worker = new PlayedWorker()
  const session = { resumed: false, received: 0, token: 't', heartbeatMs: 1000, iceServers: [] }
  worker.hear({ type: 'welcome', nodeId: 'me', ...session })
  page = new Page()
  links = new PeerLinks(page as unknown as MessagePort)
  links.onFrame((from, bytes) => worker.executor.receive(from, bytes))
  links.onLost((nodeId, error) => worker.executor.linkLost(nodeId, error))
  links.openPeer({ nodeId: 'me', token: 't', iceServers: [] })
  worker.hear({ type: 'assign', assignment })
  await settled()
  worker.hear(stepMessage())
  worker.takeParameters(4, 1)
  await settled()
})
afterEach(async () => {
  links.close()
  await worker.executor.close()
  vi.useRealTimers()
})

class Hostile {
  readonly #random: () => number
  #slice = 0
  #strand = 0
  #connected = false

  constructor(seed: number) {
    this.#random = generator(seed)
  }

  attack(): void {
    if (!this.#connected || !links.isOpen('up')) this.#dial()
    const slice = this.#sliceOf(this.#frame())
    page.tell({ type: 'forwarded', strandId: `s${this.#strand}`, data: slice.buffer })
  }

  #dial(): void {
    this.#connected = true
    this.#strand += 1
    page.connect(`s${this.#strand}`, 'up', false)
  }

  #below(n: number): number {
    return Math.floor(this.#random() * n)
  }

  #any(): number {
    return this.#random() < 0.5 ? this.#below(8) : Math.floor(this.#random() ** 4 * 0x1_0000_0000)
  }

  #noise(bytes: Uint8Array, count: number): void {
    for (let i = 0; i < count && bytes.length > 0; i++) bytes[this.#below(bytes.length)] = this.#below(256)
  }

  /** Checksums are right: whatever is wrong with it has to be seen otherwise. */
  #frame(): Uint8Array<ArrayBuffer> {
    const names = Object.keys(FRAME_KINDS) as (keyof typeof FRAME_KINDS)[]
    const codecs = Object.keys(FRAME_CODECS) as (keyof typeof FRAME_CODECS)[]
    const usual = this.#random() < 0.5
    const header: FrameHeader = {
      kind: usual ? 'activation' : names[this.#below(names.length)]!,
      codec: usual ? 'f32' : codecs[this.#below(codecs.length)]!,
      generation: this.#random() < 0.9 ? generation : this.#any(),
      // Of steps that are over, that are to come, and of none.
      step: this.#random() < 0.5 ? 5 + this.#below(3) : this.#any(),
      index: this.#random() < 0.5 ? 1 + this.#below(3) : this.#any(),
      boundary: this.#random() < 0.5 ? this.#below(3) : this.#any(),
      attempt: this.#random() < 0.8 ? 0 : this.#any(),
      rows: usual ? 4 : this.#any(),
      columns: usual ? 4 : this.#any(),
    }
    const payload = new Uint8Array(usual ? 64 : this.#below(100))
    this.#noise(payload, 4)
    const frame = encodeFrame(header, payload)
    const how = this.#random()
    if (how < 0.15) this.#noise(frame, 1 + this.#below(4))
    if (how > 0.85) return frame.slice(0, 1 + this.#below(frame.length))
    // More than its header says.
    if (how > 0.75) return new Uint8Array([...frame, ...new Uint8Array(1 + this.#below(64))])
    if (how > 0.72) return new Uint8Array(1 + this.#below(FRAME_HEADER_BYTES)).fill(this.#below(256))
    return frame
  }

  /** Mostly sound slices, some of them come twice; and some that no frame makes. */
  #sliceOf(frame: Uint8Array): Uint8Array<ArrayBuffer> {
    const slice = new Uint8Array(SLICE_HEADER_BYTES + frame.length)
    const view = new DataView(slice.buffer)
    if (this.#random() < 0.9) this.#slice += 1
    ;[this.#slice, 0, 1, frame.length].forEach((value, i) => view.setUint32(4 * i, value, true))
    slice.set(frame, SLICE_HEADER_BYTES)
    const how = this.#random()
    // The first of several of which no other comes: it claims as much as there can be.
    if (how < 0.02) [0, 30_000, 256 * MIB].forEach((value, i) => view.setUint32(4 + 4 * i, value, true))
    else if (how < 0.05) this.#noise(slice.subarray(0, SLICE_HEADER_BYTES), 1 + this.#below(3))
    else if (how < 0.06) return slice.slice(0, this.#below(SLICE_HEADER_BYTES + 1))
    return slice
  }
}

describe(`${FRAMES} bad frames of one neighbour, seed ${SEED}`, () => {
  it('crash nothing, fill no memory, are told with the neighbour’s name, and the work goes on', async () => {
    const hostile = new Hostile(SEED)
    const held: number[] = []
    for (let i = 1; i <= FRAMES; i++) {
      hostile.attack()
      if (i % 2_000 !== 0) continue
      vi.advanceTimersByTime(500)
      await settled()
      page.said.length = 0
      worker.sent.length = 0
      const { heapUsed, arrayBuffers } = process.memoryUsage()
      held.push(heapUsed + arrayBuffers)
    }
    expect(Math.max(...held) - held[0]!).toBeLessThan(200 * MIB)
    expect(worker.of('failed')).toEqual([])
    expect(worker.failures).toEqual([])
    expect(worker.executor.badFrames).toBeGreaterThan(FRAMES / 10)

    // By its name, with what was wrong, a few times and not tens of thousands of them.
    const told = worker.of('distrusted')
    expect(new Set(told.map(({ node }) => node))).toEqual(new Set(['up']))
    const codes = told.map(({ error }) => error.code)
    for (const code of ['frame.checksum', 'frame.shape', 'frame.length', 'net.slice']) expect(codes).toContain(code)
    expect(told.length).toBeLessThanOrEqual(16)
    expect(worker.of('linkLost').length).toBeLessThanOrEqual(FRAMES / 2_000 + 1)

    // The microbatch itself, from another owner of it, as the server has it now.
    worker.hear({ type: 'leases', generation, step: 5, version: 2, peers: ['other', 'down'], leases: [[0, 0, 1]] })
    worker.take('other', 'activation', 0, 5, boundary(10))
    await settled()
    worker.take('down', 'gradient', 0, 5, boundary(20))
    await settled()
    await expect.poll(() => worker.of('finished')).toHaveLength(1)
  })
})
