/** Proves by which name a request called, and that a server that knows its names goes by no other. */
import { expect, it } from 'vitest'
import { audienceOf } from '../../../server/identity/audience.ts'

const open = { hosts: [], trustProxy: false }

it.each([
  ['skein.example', 'skein.example'],
  ['Skein.Example:80', 'skein.example'],
  ['skein.example:8443', 'skein.example:8443'],
  ['[::1]:8080', '[::1]:8080'],
  ['bücher.example', 'xn--bcher-kva.example'],
  ['user@skein.example', null],
  ['skein.example/x', null],
  ['skein.example?x', null],
  ['a b', null],
  ['', null],
  [undefined, null],
])('the host %s is %s', (host, expected) => {
  expect(audienceOf({ host }, open)).toBe(expected)
})

it('goes by its own names alone where it has some', () => {
  const named = { hosts: ['skein.example', 'skein.example:8443'], trustProxy: false }
  expect(audienceOf({ host: 'skein.example:8443' }, named)).toBe('skein.example:8443')
  expect(audienceOf({ host: 'evil.example' }, named)).toBeNull()
})

it('believes a proxy only where it is told to', () => {
  const headers = { host: '10.0.0.1:8080', 'x-forwarded-host': 'skein.example, inner.example' }
  expect(audienceOf(headers, open)).toBe('10.0.0.1:8080')
  expect(audienceOf(headers, { hosts: [], trustProxy: true })).toBe('skein.example')
})
