/** Owns the byte-level tokenizer: a token is a byte of UTF-8, its id is the byte's value. */
import { filesWithoutMerges, type TokenizerFiles } from './tokenizerFiles.ts'

export const BYTE_VOCABULARY = 256

/** UTF-8 bytes of `text` as token ids. */
export function encode(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text)
}

/** Text of token ids; ids that make no whole character come out as U+FFFD, ids over 255 too. */
export function decode(tokens: ArrayLike<number>): string {
  // 0xFF never occurs in UTF-8, so that an id outside the vocabulary shows as a replacement character.
  const bytes = Uint8Array.from(tokens, (id) => (id < BYTE_VOCABULARY ? id : 0xff))
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes)
}

/**
 * GPT-2's table of printable characters that stand for the 256 bytes (Radford et al. 2019, `bytes_to_unicode`):
 * printable Latin-1 stands for itself, the others follow from U+0100 on.
 */
export function byteToUnicode(): string[] {
  const printable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff)
  let next = 0x100
  return Array.from({ length: BYTE_VOCABULARY }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++))
}

/** The files of a byte-level BPE without merges. */
export function tokenizerFiles(modelMaxLength: number): TokenizerFiles {
  const vocab = Object.fromEntries(byteToUnicode().map((character, byte) => [character, byte]))
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false }
  return filesWithoutMerges(vocab, byteLevel, byteLevel, modelMaxLength)
}
