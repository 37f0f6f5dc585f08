/** Owns how a text becomes a dataset: checked, cut into tokens, stored as one blob of little-endian uint16. */
import { isUtf8 } from 'node:buffer'
import { randomUUID } from 'node:crypto'
import { BYTE_VOCABULARY } from '../../src/formats/byteTokenizer.ts'
import { encode, vocabularyOf } from '../../src/formats/characterTokenizer.ts'
import type { DatasetView, TokenizerKind } from '../../src/protocol/api.ts'
import { fail } from '../../src/protocol/errors.ts'
import { datasetView } from '../db/rows.ts'
import type { BlobStore, DatasetRecord, Store } from '../db/store.ts'

/** Fewer tokens leave a held-out tail too short to score even small blocks. */
export const MIN_DATASET_TOKENS = 2048
export const BYTES_PER_TOKEN = 2
/** The part of a dataset that is trained on; the tail behind it is held out. */
const TRAIN_SHARE = 0.9

const isBlank = (byte: number) => byte === 0x20 || (byte >= 0x09 && byte <= 0x0d)

/** @throws SkeinError `dataset.empty`, `dataset.binary`, `dataset.too_short` */
function checkText(bytes: Uint8Array): void {
  if (bytes.every(isBlank)) fail('dataset.empty', 'The dataset holds no text.', 'Upload a file of plain UTF-8 text.')
  const nul = bytes.indexOf(0)
  if (nul >= 0 || !isUtf8(bytes)) {
    const why = nul >= 0 ? `it holds a NUL byte at ${nul}` : 'it is not valid UTF-8'
    fail(
      'dataset.binary',
      `The dataset is not text: ${why}.`,
      'Upload plain text; convert other encodings to UTF-8 first.',
    )
  }
}

function checkLength(tokens: number, kind: TokenizerKind): void {
  if (tokens >= MIN_DATASET_TOKENS) return
  fail(
    'dataset.too_short',
    `The dataset has ${tokens} tokens; a run needs at least ${MIN_DATASET_TOKENS} to train on and to score.`,
    `Upload a longer text; a token is one ${kind}.`,
  )
}

/** Token ids of valid UTF-8, with the vocabulary that they point into. */
function tokenize(bytes: Uint8Array, kind: TokenizerKind): { ids: Uint16Array; vocabulary: string | null } {
  if (kind === 'byte') return { ids: Uint16Array.from(bytes), vocabulary: null }
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes)
  const vocabulary = vocabularyOf(text)
  return { ids: encode(text, vocabulary), vocabulary }
}

/** Little-endian, whatever this machine is. */
function uint16Bytes(ids: Uint16Array): Uint8Array {
  const bytes = new Uint8Array(ids.length * BYTES_PER_TOKEN)
  for (let i = 0; i < ids.length; i++) {
    bytes[2 * i] = ids[i]! & 0xff
    bytes[2 * i + 1] = ids[i]! >> 8
  }
  return bytes
}

/**
 * Stores a text. Nothing is registered unless all of it was stored. The cut between what is trained on and what is held
 * out lies between two tokens.
 * @param bytes UTF-8 @throws SkeinError `dataset.*`, `tokenizer.too_many_characters`, `blob.write`
 */
export async function ingestText(
  deps: { store: Store; blobs: BlobStore },
  name: string,
  bytes: Uint8Array,
  tokenizer: TokenizerKind = 'byte',
): Promise<DatasetView> {
  checkText(bytes)
  const { ids, vocabulary } = tokenize(bytes, tokenizer)
  checkLength(ids.length, tokenizer)
  const dataset: DatasetRecord = {
    id: randomUUID(),
    name,
    bytes: bytes.byteLength,
    tokens: ids.length,
    trainTokens: Math.floor(TRAIN_SHARE * ids.length),
    tokenizer,
    vocabSize: vocabulary === null ? BYTE_VOCABULARY : [...vocabulary].length,
    vocabulary,
    tokensHash: await deps.blobs.put(uint16Bytes(ids)),
    createdAt: Date.now(),
  }
  await deps.store.insertDataset(dataset)
  return datasetView(dataset)
}
