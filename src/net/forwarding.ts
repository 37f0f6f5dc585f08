/** Owns the page's half of a channel that cannot be transferred: messages go to the Worker as transferables, and back. */
import { LOW_WATER_BYTES } from './limits.ts'
import type { SessionMessage } from './linkMessages.ts'

export interface ForwardedEnd {
  /** Sends what the Worker gave, and tells it how full the channel is. */
  send(data: string | ArrayBuffer): void
}

export function forwardChannel(
  linkId: string,
  channel: RTCDataChannel,
  post: (message: SessionMessage, transfer?: Transferable[]) => void,
  closed: () => void,
): ForwardedEnd {
  channel.binaryType = 'arraybuffer'
  channel.bufferedAmountLowThreshold = LOW_WATER_BYTES
  channel.onopen = () => post({ type: 'forwardOpen', linkId })
  channel.onmessage = (event: MessageEvent<string | ArrayBuffer>) =>
    post({ type: 'forwarded', linkId, data: event.data }, typeof event.data === 'string' ? [] : [event.data])
  channel.onbufferedamountlow = () => post({ type: 'forwardTaken', linkId, taken: 0, buffered: channel.bufferedAmount })
  channel.onclose = closed
  if (channel.readyState === 'open') post({ type: 'forwardOpen', linkId })
  return {
    send(data) {
      const taken = typeof data === 'string' ? data.length : data.byteLength
      try {
        if (typeof data === 'string') channel.send(data)
        else channel.send(data)
      } catch {
        return closed()
      }
      post({ type: 'forwardTaken', linkId, taken, buffered: channel.bufferedAmount })
    },
  }
}
