/** Owns what crosses a boundary: how many numbers stand for a token, how they are encoded, and how many bytes that makes. */
import type { CodecName, RunConfig } from '../protocol/runConfig.ts'
import { encodedBytes, encodedRows } from './size.ts'
import type { NumberCodec } from './size.ts'

export type CodecChoice = Pick<RunConfig, 'codec' | 'codecWidth'>
export type BoundaryConfig = CodecChoice & { readonly model: { readonly dModel: number } }

const CARRIERS: Readonly<Record<CodecName, NumberCodec>> = {
  f32: 'f32',
  f16: 'f16',
  int8: 'int8',
  int4: 'int4',
  'bottleneck-f32': 'f32',
  'bottleneck-f16': 'f16',
}

/** How the numbers travel. */
export function carrierOf(codec: CodecName): NumberCodec {
  return CARRIERS[codec]
}

/** Numbers a token of the code that a learned bottleneck sends; null for the codecs that have no weights. */
export function codeWidthOf({ codec, codecWidth }: CodecChoice): number | null {
  return codec === 'bottleneck-f32' || codec === 'bottleneck-f16' ? codecWidth : null
}

/**
 * The size of the stream behind a learned boundary. Norms make it no matter to what a layer reads; it decides how much weighs
 * what the layer writes beside what it was given, and that is to win soon, as it does behind a small first embedding.
 */
export const RECEIVED_SCALE = 0.03

/**
 * Tokens before its own whose streams the receiver takes in, column by column. What the tokens tell costs no bytes; a stage that
 * had to gather it by attention would have that much less left for what it is told.
 */
export const RECEIVED_TAPS = 3

/** Numbers that stand for one token. */
export function numbersPerToken(config: BoundaryConfig): number {
  return codeWidthOf(config) ?? config.model.dModel
}

/** Bytes of a boundary tensor, or of its gradient, for `rows` tokens. */
export function boundaryBytes(config: BoundaryConfig, rows: number): number {
  return encodedBytes(carrierOf(config.codec), rows, numbersPerToken(config))
}

/** Tokens that a boundary tensor of so many bytes stands for; null if no whole number has that size. */
export function boundaryRows(config: BoundaryConfig, bytes: number): number | null {
  return encodedRows(carrierOf(config.codec), bytes, numbersPerToken(config))
}
