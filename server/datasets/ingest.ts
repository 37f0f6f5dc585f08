/** Owns how a text becomes a dataset: checked, cut into byte tokens, stored as one blob of little-endian uint16. */
import { isUtf8 } from 'node:buffer'
import { randomUUID } from 'node:crypto'
import type { DatasetView } from '../../src/protocol/api.ts'
import { fail } from '../../src/protocol/errors.ts'
import type { BlobStore, Store } from '../db/store.ts'

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
  if (bytes.byteLength < MIN_DATASET_TOKENS) {
    fail(
      'dataset.too_short',
      `The dataset has ${bytes.byteLength} tokens; a run needs at least ${MIN_DATASET_TOKENS} to train on and to score.`,
      'Upload a longer text; a token is one byte.',
    )
  }
}

/**
 * Stores a text. Nothing is registered unless all of it was stored.
 * @param bytes UTF-8 @throws SkeinError `dataset.*`, `blob.write`
 */
export async function ingestText(
  deps: { store: Store; blobs: BlobStore },
  name: string,
  bytes: Uint8Array,
): Promise<DatasetView> {
  checkText(bytes)
  const tokens = new Uint8Array(bytes.byteLength * BYTES_PER_TOKEN)
  for (let i = 0; i < bytes.byteLength; i++) tokens[BYTES_PER_TOKEN * i] = bytes[i]!
  const dataset: DatasetView = {
    id: randomUUID(),
    name,
    bytes: bytes.byteLength,
    tokens: bytes.byteLength,
    trainTokens: Math.floor(TRAIN_SHARE * bytes.byteLength),
    createdAt: Date.now(),
  }
  await deps.store.insertDataset({ ...dataset, tokensHash: await deps.blobs.put(tokens) })
  return dataset
}
