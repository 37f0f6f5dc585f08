/** Owns the proof that the byte tokenizer and the files it hands to other tools mean the same. */
import { describe, expect, it } from 'vitest'
import { byteToUnicode, decode, encode, tokenizerFiles } from '../../../src/formats/byteTokenizer.ts'

describe('byte tokenizer', () => {
  it('brings back any text, whatever its script', () => {
    for (const text of ['', 'Once upon a time.\n', 'naïve 東京 🧶', '\ufeffmark', '\u0000\u007f']) {
      expect(decode(encode(text))).toBe(text)
    }
    expect([...encode('Aé')]).toEqual([0x41, 0xc3, 0xa9])
  })

  it('shows a replacement character for half a character and for ids outside the vocabulary', () => {
    expect(decode([0x41, 0xc3])).toBe('A\ufffd')
    expect(decode([0x41, 300])).toBe('A\ufffd')
  })

  it('maps the 256 bytes to 256 visible characters, those of GPT-2', () => {
    const table = byteToUnicode()
    expect(new Set(table).size).toBe(256)
    expect(table[0x20]).toBe('\u0120')
    expect(table[0x0a]).toBe('\u010a')
    expect(table[0x41]).toBe('A')
    expect(table[0xad]).toBe('\u0143')
    expect(table[0xff]).toBe('\u00ff')
  })

  it('writes a byte-level BPE without merges whose ids are the bytes', () => {
    const files = tokenizerFiles(64)
    const tokenizer = JSON.parse(files['tokenizer.json'])
    const table = byteToUnicode()
    const text = 'Héllo, wörld!\n'
    const ids = [...encode(text)].map((byte) => tokenizer.model.vocab[table[byte]!])
    expect(ids).toEqual([...encode(text)])
    expect(tokenizer.model).toMatchObject({ type: 'BPE', merges: [] })
    expect(tokenizer.pre_tokenizer).toMatchObject({ type: 'ByteLevel', add_prefix_space: false })
    expect(JSON.parse(files['tokenizer_config.json'])).toMatchObject({ model_max_length: 64 })
  })
})
