/** Owns the proof that settings are read, checked and named when wrong, and that the secret outlives a restart. */
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { configFromEnvironment, isLoopback, loadSecret } from '../../../server/config.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'skein-config-'))
})
afterAll(() => rm(folder, { recursive: true }))

it('listens to this machine only by default, and takes empty variables for unset', () => {
  const config = configFromEnvironment({ SKEIN_ADMIN_TOKEN: '', SKEIN_PORT: undefined, PATH: '/bin' })
  expect(config).toMatchObject({ host: '127.0.0.1', port: 8080, adminToken: null, secret: null, iceServers: [] })
})

it('reads every variable', () => {
  const config = configFromEnvironment({
    SKEIN_HOST: '0.0.0.0',
    SKEIN_PORT: '0',
    SKEIN_ADMIN_TOKEN: 'a-long-enough-token',
    SKEIN_STUN_URLS: 'stun:a.example:3478, stun:b.example',
    SKEIN_TURN_URLS: 'turn:c.example',
    SKEIN_TURN_USERNAME: 'user',
    SKEIN_TURN_CREDENTIAL: 'password',
    SKEIN_TRUST_PROXY: '1',
    SKEIN_HOSTS: 'Skein.Example, skein.example:8443,other.example:80',
    SKEIN_LOG: 'debug',
  })
  expect(config).toMatchObject({ host: '0.0.0.0', port: 0, trustProxy: true, logLevel: 'debug' })
  expect(config.hosts).toEqual(['skein.example', 'skein.example:8443', 'other.example'])
  expect(config.iceServers).toEqual([
    { urls: ['stun:a.example:3478', 'stun:b.example'] },
    { urls: ['turn:c.example'], username: 'user', credential: 'password' },
  ])
})

it('makes no credential of its own of a TURN server that it shares a secret with', () => {
  const given = {
    SKEIN_TURN_URLS: 'turn:c.example',
    SKEIN_TURN_SECRET: 'sixteen characters',
    SKEIN_TURN_LIFETIME: '600',
  }
  expect(configFromEnvironment(given)).toMatchObject({
    iceServers: [],
    turn: { urls: ['turn:c.example'], secret: 'sixteen characters', lifetimeMs: 600_000 },
  })
})

it('passes on nothing between nodes where it is told so, and else within caps', () => {
  expect(configFromEnvironment({ SKEIN_RELAY_MBIT: '0' }).relay).toBeNull()
  const given = {
    SKEIN_RELAY_MBIT: '8',
    SKEIN_RELAY_PAIR_MBIT: '0.8',
    SKEIN_RELAY_MIB: '10',
    SKEIN_RELAY_PAIR_MIB: '1',
  }
  expect(configFromEnvironment(given).relay).toEqual({
    all: { bytesPerSecond: 1_000_000, bytesPerDay: 10_485_760 },
    pair: { bytesPerSecond: 100_000, bytesPerDay: 1_048_576 },
  })
})

it('names every variable that is wrong', () => {
  const wrong = {
    SKEIN_PORT: '70000',
    SKEIN_ADMIN_TOKEN: 'short',
    SKEIN_STUN_URLS: 'http://x',
    SKEIN_LOG: 'loud',
    SKEIN_HOSTS: 'a/b',
  }
  expect(() => configFromEnvironment(wrong)).toThrowError(
    expect.objectContaining({
      code: 'config.invalid',
      message: expect.stringMatching(/SKEIN_PORT.*SKEIN_ADMIN_TOKEN.*SKEIN_STUN_URLS.*SKEIN_HOSTS.*SKEIN_LOG/),
    }),
  )
})

it('makes one secret, readable by its owner only, and keeps it', async () => {
  const dataFolder = join(folder, 'data')
  const [first, second] = await Promise.all([1, 2].map(() => loadSecret({ secret: null, dataFolder })))
  expect(first).toEqual(second)
  expect(first!.byteLength).toBe(32)
  expect(new Uint8Array(await readFile(join(dataFolder, 'secret')))).toEqual(first)
  expect((await stat(join(dataFolder, 'secret'))).mode & 0o777).toBe(0o600)
  expect(await loadSecret({ secret: null, dataFolder })).toEqual(first)
  const given = 'x'.repeat(32)
  expect(await loadSecret({ secret: given, dataFolder })).toEqual(new TextEncoder().encode(given))
  await writeFile(join(dataFolder, 'secret'), 'cut')
  await expect(loadSecret({ secret: null, dataFolder })).rejects.toMatchObject({ code: 'config.secret' })
})

it('knows this machine by its addresses and names', () => {
  for (const own of ['127.0.0.1', '127.8.9.1', '::1', '[::1]', '::ffff:127.0.0.1', 'localhost'])
    expect([own, isLoopback(own)]).toEqual([own, true])
  for (const other of ['', '0.0.0.0', '10.0.0.1', '::', '127.0.0.1.example', 'localhost.example', '1127.0.0.1'])
    expect([other, isLoopback(other)]).toEqual([other, false])
})
