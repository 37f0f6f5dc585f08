/** Proves that a Worker's own data channel loses nothing that it is given before it is open. */
import { expect, it } from 'vitest'
import { ownedChannel } from '../../../src/net/channel.ts'

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
  channel.onopen!(new Event('open') as RTCDataChannelEvent)
  expect(sent).toEqual(['first', slice])
  expect(told).toEqual(['open after 2'])
  owned.send('third')
  expect(sent).toEqual(['first', slice, 'third'])
})

it('a channel that was open when it came says so, and sends at once', async () => {
  const { owned, sent, told } = setUp('open')
  owned.send('first')
  expect(sent).toEqual(['first'])
  await Promise.resolve()
  expect(told).toEqual(['open after 1'])
})
