/** Proves that a Worker's own data channel loses nothing that it is given before it is open, and that no byte counts that one refuses. */
import { expect, it } from 'vitest'
import { ownedChannel } from '../../../src/net/channel.ts'
import type { SkeinError } from '../../../src/protocol/errors.ts'
import { cutFrame } from '../../../src/net/slicing.ts'
import { listening } from './page.ts'
import { playedStrand } from './playedStrand.ts'

function setUp(readyState: RTCDataChannelState) {
  const sent: unknown[] = []
  const told: string[] = []
  const channel = { readyState, send: (data: unknown) => sent.push(data) } as unknown as RTCDataChannel
  const owned = ownedChannel(channel, {
    open: () => told.push(`open after ${sent.length}`),
    message: () => told.push('message'),
    closed: () => told.push('closed'),
  })
  const become = (state: RTCDataChannelState) => Object.assign(channel, { readyState: state })
  return { channel, owned, sent, told, become }
}

it('an answer to what came before `open` waits for it, in order', () => {
  const { channel, owned, sent, told, become } = setUp('connecting')
  const slice = new Uint8Array([1, 2, 3])
  owned.send('first')
  owned.send(slice)
  expect(sent).toEqual([])
  become('open')
  owned.send('second')
  expect(sent).toEqual(['first', slice, 'second'])
  channel.onopen!(new Event('open') as RTCDataChannelEvent)
  expect(told).toEqual(['open after 3'])
  owned.send('third')
  expect(sent).toEqual(['first', slice, 'second', 'third'])
})

it('a channel that was open when it came says so, and sends at once', async () => {
  const { owned, sent, told } = setUp('open')
  owned.send('first')
  expect(sent).toEqual(['first'])
  await Promise.resolve()
  expect(told).toEqual(['open after 1'])
})

it('bytes that come before the handshake close the connection, and are not acknowledged', () => {
  const sent: unknown[] = []
  let error: SkeinError | null = null
  const { hear } = playedStrand({
    dialled: false,
    send: (data) => sent.push(data),
    slice: () => sent.push('slice'),
    closed: (_, why) => (error = why),
  })
  hear(cutFrame(1, new Uint8Array(100))[0]!.encode().buffer)
  expect(error).toMatchObject({ code: 'net.handshake' })
  expect(sent).toEqual([])
})

it('what a channel refuses to send is not counted as sent, and goes another way', () => {
  let refuses = false
  const { strand, hear } = playedStrand({
    send: () => {
      if (refuses) throw new Error('The channel is closing.')
    },
  })
  hear(listening())
  const [first, second] = [1, 2].map((id) => cutFrame(id, new Uint8Array(100))[0]!)
  strand.send(first!, false)
  refuses = true
  strand.send(second!, true)
  expect(strand.upBytes).toBe(first!.bytes)
  expect(strand.state).toBe('closed')
  expect(strand.takeUnderWay()).toEqual([first, second])
})
