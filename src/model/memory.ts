/**
 * Owns the estimate of what one stage takes on a device: a pure formula, which server and nodes evaluate alike.
 *
 * An upper bound of what the stage's plans lend, close enough to seat devices by: buffers are counted at the size in which
 * the pool lends them, and those of one pass as if each had a place of its own, except from layer to layer.
 */
import { boundaryBytes, RECEIVED_TAPS } from '../codec/boundary.ts'
import { sizeClass } from '../gpu/buffers.ts'
import { CHUNK_ROWS } from '../gpu/rows.ts'
import type { RunConfig } from '../protocol/runConfig.ts'
import { codeHidden, paddedVocabulary, receivesCode, runLayouts, sendsCode } from './layout.ts'
import type { StageLayout } from './layout.ts'
import { adamwRuns, stageShards, takesMuon } from './optimizerShards.ts'

/** All in bytes. */
export interface StageMemory {
  readonly weights: number
  readonly gradients: number
  /** Both, as the device holds them. */
  readonly moments: number
  /** Everything backward needs of one microbatch, when nothing is recomputed. */
  readonly activationsPerMicrobatch: number
  /** Scratch of the passes and of the update, logits, encoded boundaries. */
  readonly workspace: number
  /** Through which parameters come back from the device when a checkpoint is written. */
  readonly staging: number
  /**
   * The least that training needs: one microbatch's activations, and for every further microbatch in flight only the
   * stage's input, from which backward recomputes the rest.
   */
  readonly total: number
}

/** Logits are made for so many rows at a time that they stay below this. */
export const LOGITS_BYTES = 32 * 1024 * 1024
/** Longer vectors are cut into pieces, each of which a size class may round up. */
const WHOLE_VECTOR_BYTES = 128 * 1024 * 1024
/** A size class adds at most a quarter. */
const CLASS_WASTE = 1.25

/** Tokens of one microbatch, which are the rows of every activation. */
export function microbatchRows(config: RunConfig): number {
  return config.microbatch * config.model.blockSize
}

/** Rows of `rows` whose logits are held at once: all, or a multiple of 64, so that a block starts where a binding may. */
export function logitRows(config: RunConfig, rows: number): number {
  const most = Math.floor(LOGITS_BYTES / (4 * paddedVocabulary(config.model)) / 64) * 64
  return Math.min(rows, Math.max(64, most))
}

/** Columns of the buffers, each [rows, columns], that hold a layer's activations: `LayerActivations`. */
function layerActivations({ model: { dModel: d, ffn, heads, kvHeads } }: RunConfig): number[] {
  const width = d + 2 * (d / heads) * kvHeads
  // The stream in and after attention, both normalised, attention's output; Q, K, V; gate, up; their product; row sums.
  return [d, d, d, d, d, width, 2 * ffn, ffn, heads, 1, 1]
}

/** Columns of the buffers that a layer's backward has lent at one time or another. */
function layerScratch({ model: { dModel: d, ffn, heads, kvHeads } }: RunConfig): number[] {
  const width = d + 2 * (d / heads) * kvHeads
  // Gradients of the product, of gate and up, of both normalised streams, of both streams, of attention, of Q, K, V.
  return [ffn, 2 * ffn, d, d, d, d, d, width, heads]
}

const f32 = (rows: number, columns: readonly number[]) => columns.reduce((sum, n) => sum + sizeClass(4 * rows * n), 0)

/** Columns of what a stage keeps at its learned boundaries: the code, a hidden layer twice and what came of it; for the sender's norm d twice. */
function codeActivations({ model }: RunConfig, layout: StageLayout): number[] {
  const [hidden, width] = [codeHidden(model), layout.codeWidth ?? 0]
  return [
    ...(receivesCode(layout) ? [width, hidden, hidden, model.dModel] : []),
    ...(sendsCode(layout) ? [model.dModel, model.dModel, 1, hidden, hidden] : []),
  ]
}

/** What a slot takes that keeps the activations of one microbatch. */
export function activationBytes(config: RunConfig, layout: StageLayout): number {
  const rows = microbatchRows(config)
  return layout.layerCount * f32(rows, layerActivations(config)) + f32(rows, codeActivations(config, layout))
}

/**
 * Microbatches between their forward and their backward where links take next to no time: 1F1B's one for each stage from
 * here on, and one for the links. The server lets in more of them over links that take longer.
 */
export function microbatchesInFlight(config: RunConfig, layout: Pick<StageLayout, 'stage' | 'hasHead'>): number {
  return layout.hasHead ? 1 : Math.min(config.batch / config.microbatch, config.stages - layout.stage + 1)
}

function vectorBytes(bytes: number): number {
  return bytes <= WHOLE_VECTOR_BYTES ? sizeClass(bytes) : CLASS_WASTE * bytes
}

/** The first moment of every parameter, and the second of those that AdamW updates. */
function momentBytes({ optimizer }: RunConfig, layout: StageLayout): number {
  const each = optimizer.moments === 'bf16' ? 2 : 4
  const second = adamwRuns(layout, optimizer).reduce((sum, { length }) => sum + vectorBytes(each * length), 0)
  return vectorBytes(each * layout.length) + second
}

/** As in the tiled matmul's variant with parts, which only a GPU's room can compile and this formula may not import. */
const [LONG_SUM, SMALL_MATRIX] = [512, 512 * 512]

/** Scratch of forward and backward over the layers, whoever keeps the activations. */
function passBytes(config: RunConfig, layout: StageLayout): number {
  const rows = microbatchRows(config)
  const { dModel: d } = config.model
  const encoded = sizeClass(boundaryBytes(config, rows))
  const ends = layout.hasEmbedding ? sizeClass(4 * rows) + sizeClass(16 * rows) : 2 * encoded
  // The stage's output, its gradient, and the partial sums of a norm's weight.
  const streams = f32(rows, [d, d, d / 8])
  const head = layout.hasHead ? headBytes(config, rows) : 2 * encoded
  return f32(rows, layerScratch(config)) + streams + ends + head + codeBytes(config, layout) + partsBytes(config, rows)
}

/** Scratch of learned boundaries: ids, the code and its gradient, the gradients of hidden layer and norm, the taps', for one end at a time. */
function codeBytes(config: RunConfig, layout: StageLayout): number {
  if (!sendsCode(layout) && !receivesCode(layout)) return 0
  const { dModel: d } = config.model
  const rows = microbatchRows(config)
  const taps = f32(Math.ceil(rows / CHUNK_ROWS), [RECEIVED_TAPS * d])
  return taps + f32(rows, [1, layout.codeWidth!, layout.codeWidth!, codeHidden(config.model), d, d])
}

/** What GPUs sum a weight's gradient in, where they cut its long sum over the tokens: at most 8 parts of a small matrix. */
function partsBytes(config: RunConfig, rows: number): number {
  const { dModel: d, ffn } = config.model
  if (rows < LONG_SUM) return 0
  const matrices = [2 * d * d, 3 * d * d, d * d, 2 * ffn * d, ffn * d].filter((size) => size <= SMALL_MATRIX)
  return 8 * sizeClass(4 * Math.max(0, ...matrices))
}

function headBytes(config: RunConfig, rows: number): number {
  const { dModel: d } = config.model
  const block = logitRows(config, rows)
  // Logits, and their partial sums; the stream normalised, its gradient and the stream's; losses, sums, targets.
  return f32(block, [paddedVocabulary(config.model), 66]) + f32(rows, [d, d, d, 1, 1, 1, 1])
}

/** Scratch of what happens between two steps: another replica's gradients, and Muon's matrices. */
function mergeBytes(config: RunConfig, layout: StageLayout): number {
  const { optimizer, replicas } = config
  const shards = replicas > 1 ? stageShards(layout, 2, optimizer) : []
  const contribution = Math.max(0, ...shards.map(({ length }) => vectorBytes(4 * length)))
  const muon = layout.tensors
    .filter((tensor) => takesMuon(optimizer, tensor))
    .map(({ length, shape }) => 5 * sizeClass(4 * length) + 2 * sizeClass(4 * Math.min(...shape) ** 2))
  return contribution + Math.max(0, ...muon)
}

/** The largest product that the kernels are tried on, before there is a workspace: operands, result, and an epilogue's. */
function tuningBytes(config: RunConfig, layout: StageLayout): number {
  const rows = microbatchRows(config)
  const { dModel: d, ffn, heads, kvHeads } = config.model
  const width = d + 2 * (d / heads) * kvHeads
  const product = (m: number, outputs: number, inputs: number) => {
    const sizes = [m * outputs, m * inputs, outputs * inputs].map((n) => sizeClass(4 * n))
    return sizes.reduce((a, b) => a + b, 0) + Math.max(...sizes)
  }
  const products = [product(rows, width, d), product(rows, 2 * ffn, d), product(rows, d, ffn)]
  if (layout.hasHead) products.push(product(logitRows(config, rows), paddedVocabulary(config.model), d))
  return Math.max(...products)
}

/** What stage `stage` needs, by formula. A config that passed `validateRunConfig`'s checks of shape cannot make it throw. */
export function estimateStageMemory(config: RunConfig, stage: number): StageMemory {
  const layout = runLayouts(config)[stage]
  if (!layout) throw new RangeError(`No stage ${stage} among ${config.stages}.`)
  return layoutMemory(config, layout)
}

/** What a stage of this layout needs, whether or not the run is cut so. */
export function layoutMemory(config: RunConfig, layout: StageLayout): StageMemory {
  const flat = vectorBytes(4 * layout.length)
  const activationsPerMicrobatch = activationBytes(config, layout)
  const tables = sizeClass(4 * config.model.blockSize * (config.model.dModel / config.model.heads))
  const workspace = passBytes(config, layout) + mergeBytes(config, layout) + tables
  const moments = momentBytes(config, layout)
  const vectors = 2 * flat + moments
  const atWork = activationsPerMicrobatch + workspace + flat
  const total = vectors + Math.max(atWork, tuningBytes(config, layout))
  return {
    weights: flat,
    gradients: flat,
    moments,
    activationsPerMicrobatch,
    workspace,
    staging: flat,
    total,
  }
}

/** What a device is taken to have that could not hold a stage of `stageBytes`: so much less that the next try differs. */
export function memoryAfterFailure(memoryBytes: number, stageBytes: number): number {
  return Math.min(memoryBytes, Math.floor(0.8 * stageBytes))
}

/** Kept activations beyond this save little on the whole step, and crowd out whatever else the device does. */
export const mostKeptBytes = (software: boolean) => (software ? 2 ** 29 : 2 ** 30)

/**
 * How many microbatches in flight may keep their activations on a device that has `memoryBytes` for the stage; the others
 * are computed a second time. 0 where even that may be too much, which the device itself then says.
 */
export function activationSlots(config: RunConfig, stage: number, memoryBytes: number, software: boolean): number {
  return inFlightRoom(config, stage, memoryBytes, software).kept
}

/** Microbatches that a device has room for between their forward and their backward. */
export interface InFlightRoom {
  /** With their activations. */
  readonly kept: number
  /** Those and others of which only the stage's input is kept, and whose forward is computed a second time. */
  readonly most: number
}

/** The room of a device that has `memoryBytes` for the stage; what is left beside the activations is for inputs. */
export function inFlightRoom(config: RunConfig, stage: number, memoryBytes: number, software: boolean): InFlightRoom {
  const { total, activationsPerMicrobatch: each } = estimateStageMemory(config, stage)
  const layout = runLayouts(config)[stage]!
  // The last stage goes back through a microbatch at once.
  const step = layout.hasHead ? 1 : config.batch / config.microbatch
  // What `total` holds for the one that is recomputed serves the scoring in part, so no slot makes up for it.
  const room = Math.max(0, memoryBytes - total)
  const kept = Math.min(step, Math.floor(Math.min(room, mostKeptBytes(software)) / each))
  const rows = microbatchRows(config)
  const input = layout.hasEmbedding ? 4 * rows : boundaryBytes(config, rows)
  return { kept, most: Math.min(step, kept + Math.floor((room - kept * each) / input)) }
}
