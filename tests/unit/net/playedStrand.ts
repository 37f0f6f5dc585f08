/** Owns a strand whose channel a test plays, on a virtual clock. */
import type { ChannelEvents } from '../../../src/net/channel.ts'
import { Strand, type StrandOptions } from '../../../src/net/strand.ts'
import { Timeline } from './wire.ts'

/** `send` takes what it puts into the channel, the handshake too; `hear` is what comes out of it. */
export function playedStrand({
  send,
  ...options
}: Partial<StrandOptions> & { send: (data: string | Uint8Array<ArrayBuffer>) => void }) {
  const time = new Timeline()
  let events!: ChannelEvents
  const strand = new Strand({
    ...{ strandId: 's', partner: 'a', dialled: true, kind: 'direct', now: () => time.now },
    later: (milliseconds, run) => time.at(time.now + milliseconds, run),
    connect: (given) => {
      events = given
      return { send, close: () => {} }
    },
    ownLink: () => '00000001',
    ...{ established: () => {}, slice: () => {}, roomAgain: () => {}, closed: () => {} },
    ...options,
  })
  return { time, strand, hear: (data: string | ArrayBuffer) => events.message(data) }
}
