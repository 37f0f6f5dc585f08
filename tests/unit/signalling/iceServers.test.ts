/** Proves the credentials for a TURN server against the convention that coturn follows. */
import { createHmac } from 'node:crypto'
import { expect, it } from 'vitest'
import { iceSource } from '../../../server/signalling/iceServers.ts'

const stun = { urls: ['stun:s.example'] }

it('makes a name that says when it expires, and the password that belongs to it', () => {
  const turn = { urls: ['turn:t.example', 'turn:t.example?transport=tcp'], secret: 'a secret', lifetimeMs: 600_000 }
  let now = 1_700_000_000_400
  const source = iceSource([stun], turn, () => now)
  const username = '1700000600:node-a'
  // As coturn's documentation has it: base64(hmac-sha1(secret, name)).
  const credential = createHmac('sha1', 'a secret').update(username).digest('base64')
  expect(source.serversFor('node-a')).toEqual([stun, { urls: turn.urls, username, credential }])
  now += 300_000
  expect(source.serversFor('node-a')[1]!.username).toBe('1700000900:node-a')
  expect(source.serversFor('node-b')[1]!.credential).not.toBe(credential)
  // In time before it expires.
  expect(source.renewMs).toBe(300_000)
})

it('tells of nothing but what is fixed where no secret is shared', () => {
  expect(iceSource([stun], null)).toMatchObject({ renewMs: null })
  expect(iceSource([stun], null).serversFor('node-a')).toEqual([stun])
})
