/** Owns the character-level tokenizer: a token is a Unicode character, its id the character's place in the sorted vocabulary. */
import { fail } from '../protocol/errors.ts'
import { filesWithoutMerges, type TokenizerFiles } from './tokenizerFiles.ts'

/** Beyond this a model would spend itself on rows of the embedding that it hardly ever sees. */
export const MAX_CHARACTERS = 4096

/** Code points end here; a table of all of them is looked up faster than a Map. */
const CODE_POINTS = 0x11_0000
/** What the table says of a character that is not in the vocabulary; above every id. */
const NONE = 0xffff

/**
 * The distinct characters (code points) of `text` in ascending order, as one string.
 * @throws SkeinError `tokenizer.too_many_characters` for more than {@link MAX_CHARACTERS}
 */
export function vocabularyOf(text: string): string {
  const seen = new Uint8Array(CODE_POINTS)
  let count = 0
  for (let i = 0; i < text.length; i++) {
    const point = text.codePointAt(i)!
    if (point > 0xffff) i++
    if (seen[point]) continue
    seen[point] = 1
    if (++count > MAX_CHARACTERS)
      fail(
        'tokenizer.too_many_characters',
        `The text holds more than ${MAX_CHARACTERS} different characters.`,
        'Use byte tokens, which hold any text, or take out what is in rare scripts.',
      )
  }
  const points: number[] = []
  for (let point = 0; point < CODE_POINTS; point++) if (seen[point]) points.push(point)
  return points.map((point) => String.fromCodePoint(point)).join('')
}

/** Ids of the characters of `text`. @throws SkeinError `tokenizer.unknown_character` */
export function encode(text: string, vocabulary: string): Uint16Array<ArrayBuffer> {
  const idOf = new Uint16Array(CODE_POINTS).fill(NONE)
  let next = 0
  for (const character of vocabulary) idOf[character.codePointAt(0)!] = next++
  const ids = new Uint16Array(text.length)
  let length = 0
  for (let i = 0; i < text.length; i++) {
    const point = text.codePointAt(i)!
    if (point > 0xffff) i++
    const id = idOf[point]!
    if (id === NONE)
      fail(
        'tokenizer.unknown_character',
        `The character ${JSON.stringify(String.fromCodePoint(point))} is not among the ${next} of the vocabulary.`,
        'Use characters that the training text holds.',
      )
    ids[length++] = id
  }
  return length === ids.length ? ids : ids.slice(0, length)
}

/** Text of ids; an id beyond the vocabulary comes out as U+FFFD. */
export function decode(tokens: ArrayLike<number>, vocabulary: string): string {
  const characters = [...vocabulary]
  return Array.from(tokens, (id) => characters[id] ?? '\ufffd').join('')
}

/** Cut into single characters, line ends too, looked up, and put together again with nothing in between. */
export function tokenizerFiles(vocabulary: string, modelMaxLength: number): TokenizerFiles {
  const vocab = Object.fromEntries([...vocabulary].map((character, id) => [character, id]))
  const split = { type: 'Split', pattern: { Regex: '[\\s\\S]' }, behavior: 'Isolated', invert: false }
  return filesWithoutMerges(vocab, split, { type: 'Fuse' }, modelMaxLength)
}
