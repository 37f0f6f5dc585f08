/** Owns the proof that characters keep their order and their text, and that what cannot be held is refused. */
import { describe, expect, it } from 'vitest'
import { characterTokenizer, tokenizerFor } from '../../../src/formats/tokenizer.ts'
import { decode, encode, MAX_CHARACTERS, vocabularyOf } from '../../../src/formats/characterTokenizer.ts'

describe('vocabularyOf', () => {
  it('holds each character once, by code point', () => {
    // U+1F332 is two UTF-16 units that begin below U+FF5E: order by units would put it first.
    expect(vocabularyOf('ba\n～🌲ab🌲é')).toBe('\nabé～🌲')
  })

  it('ends where a vocabulary is no longer one', () => {
    const text = (n: number) => Array.from({ length: n }, (_, i) => String.fromCodePoint(0x4e00 + i)).join('')
    expect(vocabularyOf(text(MAX_CHARACTERS))).toHaveLength(MAX_CHARACTERS)
    expect(() => vocabularyOf(text(MAX_CHARACTERS + 1))).toThrow(
      expect.objectContaining({ code: 'tokenizer.too_many_characters', remedy: expect.stringContaining('byte') }),
    )
  })
})

describe('encoding', () => {
  const text = 'First Citizen:\r\nNaïve 🌲🌲, speak.\ufeff'

  it('numbers characters by their place, and comes back whole', () => {
    const vocabulary = vocabularyOf(text)
    const ids = encode(text, vocabulary)
    expect(ids).toHaveLength([...text].length)
    expect([...ids].map((id) => [...vocabulary][id]).join('')).toBe(text)
    expect(decode(ids, vocabulary)).toBe(text)
  })

  it('names a character that the vocabulary lacks; ids beyond it are replacement characters', () => {
    expect(() => encode('ab\n', 'ab')).toThrow(expect.objectContaining({ code: 'tokenizer.unknown_character' }))
    expect(() => encode('ab\n', 'ab')).toThrow('"\\n"')
    expect(decode([0, 2, 1], 'ab')).toBe('a\ufffdb')
  })

  it('is one thing through either door', () => {
    const tokenizer = tokenizerFor('character', text)
    expect(tokenizer.vocabSize).toBe(new Set(text).size)
    expect(tokenizer.decode(characterTokenizer(vocabularyOf(text)).encode(text))).toBe(text)
    expect(tokenizerFor('byte', text).encode('é')).toEqual(Uint16Array.of(0xc3, 0xa9))
  })
})

describe('tokenizer.json', () => {
  it('cuts at every character, line ends too, and joins without anything in between', () => {
    const files = characterTokenizer('\n ab').files(64)
    const { model, pre_tokenizer, decoder } = JSON.parse(files['tokenizer.json'])
    expect(model).toMatchObject({ type: 'BPE', merges: [], vocab: { '\n': 0, ' ': 1, a: 2, b: 3 } })
    expect('a\n b'.match(new RegExp(pre_tokenizer.pattern.Regex, 'gu'))).toEqual(['a', '\n', ' ', 'b'])
    expect(pre_tokenizer).toMatchObject({ type: 'Split', behavior: 'Isolated', invert: false })
    expect(decoder).toEqual({ type: 'Fuse' })
    expect(JSON.parse(files['tokenizer_config.json']).model_max_length).toBe(64)
  })
})
