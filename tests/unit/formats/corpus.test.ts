/** Owns the proof that the built-in corpus is deterministic, plain and varied. */
import { describe, expect, it } from 'vitest'
import { generateCorpus } from '../../../src/formats/corpus.ts'

describe('generateCorpus', () => {
  it('is the same for a seed, another for another, and a longer one begins with the shorter', () => {
    const text = generateCorpus(1, 20_000)
    expect(text).toHaveLength(20_000)
    expect(generateCorpus(1, 30_000).slice(0, 20_000)).toBe(text)
    expect(generateCorpus(2, 20_000)).not.toBe(text)
    expect(generateCorpus(1, 0)).toBe('')
  })

  it('is ASCII text of sentences without gaps in the grammar', () => {
    const text = generateCorpus(3, 200_000)
    expect(text).toMatch(/^[\n\x20-\x7e]*$/)
    expect(text).not.toMatch(/undefined|\[object| {2}| a [aeiou]\w|\.\.|\n\n\n/)
    expect(text.split('\n\n').length).toBeGreaterThan(250)
  })

  it('rarely tells the same story twice', () => {
    const stories = generateCorpus(5, 500_000).split('\n\n').slice(0, -1)
    expect(new Set(stories).size / stories.length).toBeGreaterThan(0.99)
  })

  it('keeps one cast through a story: who lost a thing is who was given it', () => {
    const stories = generateCorpus(9, 300_000).split('\n\n')
    const lost = stories.filter((story) => story.includes('could not find the'))
    expect(lost.length).toBeGreaterThan(20)
    for (const story of lost) {
      const [, name, object] = /Then (\w+) could not find the ([\w ]+)\./.exec(story)!
      expect(story.slice(0, story.indexOf('Then '))).toContain(name)
      expect(story.slice(0, story.indexOf('Then '))).toContain(object)
    }
  })
})
