/** Owns SHA-256 without waiting: the port, and the implementation that runs everywhere. */
import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex } from '@noble/hashes/utils.js'

export interface Sha256 {
  /** Of the text's UTF-8, in lower-case hex. */
  text(text: string): string
  bytes(bytes: Uint8Array): Uint8Array
}

const encoder = new TextEncoder()

export const portableSha256: Sha256 = {
  text: (text) => bytesToHex(sha256(encoder.encode(text))),
  bytes: (bytes) => sha256(bytes),
}
