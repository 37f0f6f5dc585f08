/** Owns the page's end of the links' port, played by a test. */
import type { LinksMessage, SessionMessage } from '../../../src/net/linkMessages.ts'
import { cutFrame, SLICE_HEADER_BYTES } from '../../../src/net/slicing.ts'
import { PROTOCOL_VERSION } from '../../../src/protocol/version.ts'

/** `link`: what the end that says it calls the link. */
export const listening = (link = '0123abcd') => `skein-listening ${PROTOCOL_VERSION} ${link}`

const ACKNOWLEDGEMENT_BYTES = 4
const isSlice = (data: string | ArrayBuffer) => typeof data !== 'string' && data.byteLength > ACKNOWLEDGEMENT_BYTES

/** Channels are forwarded ones, so everything passes here. */
export class Page {
  readonly said: LinksMessage[] = []
  onmessage: ((event: { data: SessionMessage }) => void) | null = null
  postMessage(message: LinksMessage) {
    this.said.push(message)
  }
  tell(message: SessionMessage) {
    this.onmessage?.({ data: message })
  }
  of<T extends LinksMessage['type']>(type: T) {
    return this.said.filter((m): m is Extract<LinksMessage, { type: T }> => m.type === type)
  }
  /** A connection comes up and both ends say that they listen. */
  connect(strandId: string, partner: string, dialled = true, link?: string) {
    this.tell({ type: 'strand', strandId, partner, dialled, channel: null })
    this.tell({ type: 'forwardOpen', strandId })
    this.tell({ type: 'forwarded', strandId, data: listening(link) })
  }
  /** The other end has received all it was sent. */
  drain(strandId: string) {
    const slices = this.of('forward').filter((m) => m.strandId === strandId && isSlice(m.data)).length
    if (slices === (this.#acknowledged.get(strandId) ?? 0)) return
    this.#acknowledged.set(strandId, slices)
    this.tell({ type: 'forwarded', strandId, data: new Uint32Array([slices]).buffer })
  }
  sentBytes(strandId: string) {
    const sent = this.of('forward').filter((m) => m.strandId === strandId && isSlice(m.data))
    return sent.reduce((sum, { data }) => sum + (data as ArrayBuffer).byteLength, 0)
  }
  /** Payload bytes of the frames that were put into this link, each of which fits one slice. */
  frames(strandId: string) {
    const slices = this.of('forward').filter((m) => m.strandId === strandId && isSlice(m.data))
    return slices.map(({ data }) => (data as ArrayBuffer).byteLength - SLICE_HEADER_BYTES)
  }
  readonly #acknowledged = new Map<string, number>()
  #messageId = 0
  /** What the other end sent. */
  frame(strandId: string, frame: Uint8Array) {
    this.#messageId += 1
    for (const parcel of cutFrame(this.#messageId, frame)) {
      this.tell({ type: 'forwarded', strandId, data: parcel.encode().buffer })
    }
  }
}
