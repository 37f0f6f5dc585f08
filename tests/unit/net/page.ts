/** Owns the page's end of the links' port, played by a test. */
import type { LinksMessage, SessionMessage } from '../../../src/net/linkMessages.ts'
import { SLICE_HEADER_BYTES, sliceFrame } from '../../../src/net/slicing.ts'
import { PROTOCOL_VERSION } from '../../../src/protocol/version.ts'

export const LISTENING = `skein-listening ${PROTOCOL_VERSION}`

/** Channels are forwarded ones, so everything passes here. */
export class Page {
  readonly said: LinksMessage[] = []
  onmessage: ((event: { data: SessionMessage }) => void) | null = null
  /** Pings of each link; they leave at once. */
  readonly pings: [linkId: string, text: string][] = []
  postMessage(message: LinksMessage) {
    if (message.type === 'forward' && String(message.data).startsWith('skein-ping')) {
      const { linkId, data } = message
      this.pings.push([linkId, String(data)])
      this.tell({ type: 'forwardTaken', linkId, taken: String(data).length, buffered: 0 })
    } else this.said.push(message)
  }
  tell(message: SessionMessage) {
    this.onmessage?.({ data: message })
  }
  of<T extends LinksMessage['type']>(type: T) {
    return this.said.filter((m): m is Extract<LinksMessage, { type: T }> => m.type === type)
  }
  /** The partner's link comes up and both ends say that they listen. */
  connect(linkId: string, partner: string, dialled = true) {
    this.tell({ type: 'link', linkId, partner, dialled, channel: null })
    this.tell({ type: 'forwardOpen', linkId })
    this.tell({ type: 'forwarded', linkId, data: LISTENING })
  }
  /** The channel has taken all it was given. */
  drain(linkId: string) {
    this.tell({
      type: 'forwardTaken',
      linkId,
      taken: this.sentBytes(linkId) - (this.#taken.get(linkId) ?? 0),
      buffered: 0,
    })
    this.#taken.set(linkId, this.sentBytes(linkId))
  }
  sentBytes(linkId: string) {
    const sent = this.of('forward').filter((m) => m.linkId === linkId)
    return sent.reduce((sum, { data }) => sum + (typeof data === 'string' ? data.length : data.byteLength), 0)
  }
  /** Payload bytes of the frames that were put into this link, each of which fits one slice. */
  frames(linkId: string) {
    const slices = this.of('forward').flatMap((m) =>
      m.linkId === linkId && typeof m.data !== 'string' ? [m.data] : [],
    )
    return slices.map((slice) => slice.byteLength - SLICE_HEADER_BYTES)
  }
  readonly #taken = new Map<string, number>()
  #messageId = 0
  /** What the other end sent. */
  frame(linkId: string, frame: Uint8Array) {
    this.#messageId += 1
    for (const slice of sliceFrame(this.#messageId, frame)) this.tell({ type: 'forwarded', linkId, data: slice.buffer })
  }
}
