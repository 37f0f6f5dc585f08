/** Owns the proof that the event log tells each event once, in its place, and speaks no more than can be heard. */
import { describe, expect, test } from 'vitest'
import type { RunEvent } from '../../../src/protocol/api.ts'
import { eventLines, stepWords, timesWords } from '../../../src/ui/console/eventGroups.ts'
import { EventNews } from '../../../src/ui/console/eventNews.ts'

const JOINS = 'A volunteer joins stage 2 and loads its weights.'
const at = (seconds: number, text: string, step = 1): RunEvent => ({ at: seconds * 1000, step, text })
const plain = (text: string) => text.replaceAll('\u00a0', ' ')

describe('lines', () => {
  test('are newest first, and the same sentence in a row is one line', () => {
    const lines = eventLines([at(0, 'a'), at(1, JOINS, 4), at(3, JOINS, 4), at(4.5, JOINS, 6), at(5, 'b')], 0)
    expect(lines.map(({ text, times }) => [text, times])).toEqual([
      ['b', 1],
      [JOINS, 3],
      ['a', 1],
    ])
    expect(plain(timesWords(lines[1]!))).toBe('3 times within 4 s')
    expect(stepWords(lines[1]!)).toBe('steps 4–6')
    expect([timesWords(lines[0]!), stepWords(lines[0]!)]).toEqual(['', 'step 1'])
  })

  test('are not made one across a pause or another sentence', () => {
    expect(eventLines([at(0, JOINS), at(10.1, JOINS)], 0)).toHaveLength(2)
    expect(eventLines([at(0, JOINS), at(1, 'b'), at(2, JOINS)], 0)).toHaveLength(3)
  })

  test('keep their keys when older events are no longer sent and newer ones come', () => {
    const events = [at(0, 'a'), at(20, 'b'), at(40, JOINS)]
    const before = eventLines(events, 7).map(({ key, text }) => [key, text])
    const after = eventLines([...events.slice(1), at(41, JOINS)], 8).map(({ key, text }) => [key, text])
    expect(after).toEqual(before.slice(0, 2))
  })
})

describe('what is spoken', () => {
  test('is not what the page opened with, and is at most one sentence in ten seconds', () => {
    const news = new EventNews()
    expect(news.observe(5, 'old', 0)).toBe('')
    expect(news.observe(6, 'first', 1000)).toBe('first')
    expect(news.observe(9, 'second', 2000)).toBe('first')
    expect(news.observe(10, 'latest', 11_000)).toBe('4 new events. The latest: latest')
    expect(news.observe(10, 'latest', 60_000)).toBe('4 new events. The latest: latest')
  })
})
