/** Proves that what a measuring command cannot mean is refused, with the way to that command's usage. */
import { describe, expect, it } from 'vitest'
import { CommandLine, FLAG, TEXT } from '../../bench/commandLine.ts'

const line = new CommandLine('codec')
const refused = (message: RegExp, of = 'codec ') =>
  expect.objectContaining({
    code: 'bench.option',
    message: expect.stringMatching(message),
    remedy: `Run \`npm run bench -- ${of}--help\` for the options.`,
  })

it('reads a command’s own options and those of every command', () => {
  const options = { steps: TEXT, full: FLAG }
  const given = ['--steps', '5', '--full', '--json', 'x.json', '-h']
  expect(line.read(given, options).values).toEqual({
    ...{ steps: '5', full: true, json: 'x.json', markdown: false, help: true },
  })
  expect(new CommandLine('').read(['kernels'], options, true).positionals).toEqual(['kernels'])
})

it.each([[['--fast']], [['--steps']], [['--full=yes']], [['kernels']]])('refuses %j', (args) => {
  expect(() => line.read(args, { steps: TEXT, full: FLAG })).toThrow(refused(/./))
  expect(() => new CommandLine('').read(['--fast'], {})).toThrow(refused(/fast/, ''))
})

it('takes one of the choices', () => {
  expect(line.choice('optimizer', 'muon', ['adamw', 'muon'])).toBe('muon')
  expect(() => line.choice('optimizer', 'sgd', ['adamw', 'muon'])).toThrow(
    refused(/^--optimizer takes adamw or muon, not “sgd”\.$/),
  )
})

describe('numbers', () => {
  it.each([
    ['0.003', {}, 0.003],
    ['600', { whole: true, least: 1 }, 600],
    ['2', { least: 2, most: 600 }, 2],
  ])('takes %s within %j', (text, range, value) => {
    expect(line.number('steps', text, range)).toBe(value)
  })

  it.each([
    ['', {}, /takes a number of at least 0, not “”/],
    ['many', {}, /not “many”/],
    ['Infinity', {}, /not “Infinity”/],
    ['-1', {}, /at least 0/],
    ['1.5', { whole: true }, /takes a whole number/],
    ['0', { whole: true, least: 1 }, /of at least 1/],
    ['601', { least: 2, most: 600 }, /from 2 to 600/],
  ])('refuses “%s” within %j', (text, range, message) => {
    expect(() => line.number('steps', text, range)).toThrow(refused(message))
  })
})
