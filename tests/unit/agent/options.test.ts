/** Proves what the agent's command line takes, and what it refuses and how. */
import { expect, it } from 'vitest'
import { agentOptions } from '../../../src/agent/options.ts'
import type { SkeinError } from '../../../src/protocol/errors.ts'

const refused = (...args: string[]) => {
  try {
    agentOptions(args)
  } catch (caught) {
    return caught as SkeinError
  }
  throw new Error(`${args.join(' ')} was taken`)
}

it('takes a server’s address with or without its slash, and leaves the rest to choose itself', () => {
  for (const url of ['https://skein.example', 'https://skein.example/']) {
    expect(agentOptions(['--server', url])).toEqual({
      origin: 'https://skein.example',
      allowSoftware: false,
      memoryBytes: null,
      adapter: null,
      state: null,
      agree: null,
      json: false,
    })
  }
})

it('takes every option', () => {
  const args = [
    '--server=http://10.0.0.1:8080',
    '--allow-software',
    '--memory',
    '1.5',
    '--adapter',
    'H200',
    '--state=/s',
  ]
  expect(agentOptions([...args, '--json'])).toEqual({
    origin: 'http://10.0.0.1:8080',
    allowSoftware: true,
    memoryBytes: 1.5 * 1024 ** 3,
    adapter: 'H200',
    state: '/s',
    agree: null,
    json: true,
  })
})

it('takes a challenge by its digits alone', () => {
  const id = '0123456789abcdef'.repeat(2)
  expect(agentOptions(['--server', 'https://skein.example', '--agree', id])).toMatchObject({ agree: id })
  for (const text of ['', 'x', id.toUpperCase(), `${id}0`])
    expect(refused('--server', 'https://skein.example', '--agree', text).code).toBe('agent.option')
})

it('gives the usage, whatever else is wrong', () => {
  expect(agentOptions(['--help'])).toBeNull()
  expect(agentOptions(['-h', '--server', 'nonsense'])).toBeNull()
})

it.each([
  [[]],
  [['--server', 'skein.example']],
  [['--server', 'ftp://skein.example']],
  [['--server', 'ws://skein.example']],
  [['--server', 'https://skein.example/console']],
  [['--server', 'https://skein.example/?x=1']],
  [['--server', 'https://user@skein.example']],
])('refuses the server in %j', (args) => {
  const { code, message, remedy } = refused(...args)
  expect(code).toBe('agent.server')
  expect(message).not.toBe('')
  expect(remedy).toMatch(/--server|--help/)
})

it('does not repeat a password', () => {
  expect(refused('--server', 'https://user:hunter2@skein.example').message).not.toContain('hunter2')
})

it.each([
  [['--memory', '0']],
  [['--memory', '-1']],
  [['--memory', '8GB']],
  [['--memory', '']],
  [['--bogus']],
  [['stray']],
  [['--memory']],
])('refuses %j', (args) => {
  expect(refused('--server', 'https://skein.example', ...args).code).toBe('agent.option')
})
