/** Owns the proof that numbers are written with their unit and without false digits. */
import { describe, expect, test } from 'vitest'
import {
  age,
  bytes,
  count,
  duration,
  flops,
  loss,
  money,
  percent,
  rate,
  span,
} from '../../../src/ui/words/quantities.ts'

const plain = (text: string) => text.replaceAll('\u00a0', ' ')

describe('bytes', () => {
  test.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.00 KiB'],
    [1024 * 1024 - 1, '1.00 MiB'],
    [97.5 * 1024 ** 2, '97.5 MiB'],
    [5 * 1024 ** 3, '5.00 GiB'],
    [-3, '0 B'],
    [Number.NaN, '–'],
  ])('%d is %s', (value, text) => expect(plain(bytes(value))).toBe(text))
})

describe('count', () => {
  test.each([
    [0, '0'],
    [9_999, '9,999'],
    [12_345, '12.3 k'],
    [999_600, '1.00 M'],
    [4_194_304, '4.19 M'],
  ])('%d is %s', (value, text) => expect(plain(count(value))).toBe(text))
})

describe('credit', () => {
  test.each([
    [0n, '0 FLOP'],
    [999n, '999 FLOP'],
    [1_500n, '1.50 kFLOP'],
    [999_999_999_999n, '1.00 TFLOP'],
    [12_345_000_000_000n, '12.3 TFLOP'],
    [4_560_000_000_000_000n, '4.56 PFLOP'],
    [10n ** 25n, '10000 ZFLOP'],
  ])('%s is %s', (value, text) => expect(plain(flops(value))).toBe(text))
})

describe('money', () => {
  const dot = { decimals: 10, symbol: 'DOT' }
  test.each([
    [0n, '0 DOT'],
    [1n, '0.0000000001 DOT'],
    [12_045_000_000_000n, '1,204.5 DOT'],
    [-5_000_000_000n, '−0.5 DOT'],
    [123_456_789_012_345_678_901n, '12,345,678,901.2345678901 DOT'],
  ])('%s planck are %s, to the last digit', (value, text) => expect(plain(money(value, dot))).toBe(text))

  test('a chain without decimals counts whole units', () =>
    expect(plain(money(1_234_567n, { decimals: 0, symbol: 'UNIT' }))).toBe('1,234,567 UNIT'))
})

describe('time', () => {
  test.each([
    [0, '0 ms'],
    [850, '850 ms'],
    [12_400, '12.4 s'],
    [59_970, '1 min 00 s'],
    [185_000, '3 min 05 s'],
    [2 * 3_600_000 + 7 * 60_000, '2 h 07 min'],
    [3 * 86_400_000 + 4 * 3_600_000, '3 d 4 h'],
  ])('%d ms is %s', (ms, text) => expect(plain(duration(ms))).toBe(text))

  test('an age is rounded down to one unit', () => {
    expect(age(1000, 2000)).toBe('just now')
    expect(plain(age(0, 59_900))).toBe('59 s ago')
    expect(plain(age(0, 3_599_000))).toBe('59 min ago')
    expect(plain(span(90_000_000))).toBe('1 d')
  })

  test('a clock that runs behind gives no negative age', () => expect(age(5000, 0)).toBe('just now'))
})

test('what is unknown is a dash, never a zero', () => {
  expect(rate(null, 'tokens/s')).toBe('–')
  expect(loss(null)).toBe('–')
  expect(loss(Number.NaN)).toBe('–')
})

test('a rate keeps its unit and its digits', () => {
  expect(plain(rate(3.14159, 'tokens/s'))).toBe('3.14 tokens/s')
  expect(plain(rate(1843.2, 'tokens/s'))).toBe('1,843 tokens/s')
})

test('a download says 100 % only when it is whole', () => {
  expect(plain(percent(0.999))).toBe('99 %')
  expect(plain(percent(1))).toBe('100 %')
  expect(plain(percent(7))).toBe('100 %')
})
