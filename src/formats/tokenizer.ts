/** Owns what a tokenizer is: text to ids and back, and the two files with which others load it. */
import type { TokenizerKind } from '../protocol/api.ts'
import * as byte from './byteTokenizer.ts'
import * as character from './characterTokenizer.ts'
import type { TokenizerFiles } from './tokenizerFiles.ts'

export interface Tokenizer {
  readonly kind: TokenizerKind
  /** Ids are below this. */
  readonly vocabSize: number
  /** @throws SkeinError `tokenizer.unknown_character` for text that a character vocabulary lacks */
  encode(text: string): Uint16Array<ArrayBuffer>
  /** Ids that stand for nothing come out as U+FFFD. */
  decode(tokens: ArrayLike<number>): string
  /** @param modelMaxLength tokens that the model can read at once */
  files(modelMaxLength: number): TokenizerFiles
}

export const byteTokenizer: Tokenizer = {
  kind: 'byte',
  vocabSize: byte.BYTE_VOCABULARY,
  encode: (text) => Uint16Array.from(byte.encode(text)),
  decode: byte.decode,
  files: byte.tokenizerFiles,
}

/** @param vocabulary every character once, its place its id; see `vocabularyOf` */
export function characterTokenizer(vocabulary: string): Tokenizer {
  return {
    kind: 'character',
    vocabSize: [...vocabulary].length,
    encode: (text) => character.encode(text, vocabulary),
    decode: (tokens) => character.decode(tokens, vocabulary),
    files: (modelMaxLength) => character.tokenizerFiles(vocabulary, modelMaxLength),
  }
}

/** The tokenizer for a whole text. @throws SkeinError `tokenizer.too_many_characters` */
export function tokenizerFor(kind: TokenizerKind, text: string): Tokenizer {
  return kind === 'byte' ? byteTokenizer : characterTokenizer(character.vocabularyOf(text))
}
