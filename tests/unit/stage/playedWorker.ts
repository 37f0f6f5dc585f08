/** Owns the worker around an executor as a test plays it: a model of arithmetic, links that keep what they are given, a server. */
import type { ExhibitKind } from '../../../src/protocol/audit.ts'
import type { Assignment, ClientMessage, NodePhase, ServerMessage } from '../../../src/protocol/control.ts'
import type { SkeinError } from '../../../src/protocol/errors.ts'
import { decodeFrame, type Frame } from '../../../src/protocol/frame.ts'
import type { Shard } from '../../../src/protocol/routing.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'
import { StageExecutor } from '../../../src/stage/executor.ts'
import { bytesOf, frameShape, tensorFrame } from '../../../src/stage/frames.ts'
import type { TensorAddress, TensorKind } from '../../../src/stage/machineTypes.ts'
import { NO_CHUNKS } from '../../../src/store/chunks.ts'
import { PlayedModel } from './playedModel.ts'

const model = { vocabSize: 8, dModel: 4, layers: 3, heads: 1, kvHeads: 1, ffn: 4, blockSize: 2 }
export const config = runConfigSchema.parse({ model, stages: 3, replicas: 2, batch: 4, microbatch: 2, codec: 'f32' })
export const [generation, stage, rows] = [7, 1, 4]

export const { privateKey, publicKey } = (await crypto.subtle.generateKey('Ed25519', true, [
  'sign',
  'verify',
])) as CryptoKeyPair
export const deviceId = Buffer.from(await crypto.subtle.exportKey('raw', publicKey)).toString('hex')

type Said<K extends ClientMessage['type']> = Extract<ClientMessage, { type: K }>

/** The one stage in the middle of three, which needs no tokens. */
export class PlayedWorker {
  readonly models: PlayedModel[] = []
  readonly said: ClientMessage[] = []
  readonly sent: { to: string; frame: Frame }[] = []
  readonly phases: NodePhase[] = []
  readonly exhibits: { audit: string; kind: ExhibitKind; bytes: Uint8Array }[] = []
  readonly failures: SkeinError[] = []
  partners: readonly string[] = []
  /** What `send` answers with, unless it rejects. */
  sending: Promise<void> = Promise.resolve()
  /** What `send` rejects with. */
  broken: SkeinError | null = null
  sign = async (bytes: Uint8Array<ArrayBuffer>) =>
    new Uint8Array(await crypto.subtle.sign('Ed25519', privateKey, bytes))
  readonly executor = new StageExecutor({
    apiUrl: 'http://skein.test',
    token: () => 'token',
    key: { id: deviceId, sign: (bytes) => this.sign(bytes) },
    chunks: NO_CHUNKS,
    createModel: ({ config: c, stage: s }) => {
      this.models.push(new PlayedModel(c, s))
      return Promise.resolve(this.model)
    },
    links: {
      setPartners: (ids) => (this.partners = ids),
      send: (to, bytes) => {
        if (this.broken) return Promise.reject(this.broken)
        this.sent.push({ to, frame: decodeFrame(bytes) })
        return this.sending
      },
      speedOf: (nodeId) => (nodeId === 'up' ? { rttMs: 80, bytesPerSecond: 1e6 } : null),
    },
    report: (message) => this.said.push(message),
    exhibit: (audit, kind, bytes) => {
      this.exhibits.push({ audit, kind, bytes })
      return Promise.resolve()
    },
    phase: (phase) => void (this.phases.at(-1) !== phase && this.phases.push(phase)),
    assigned: () => {},
    failed: (error) => this.failures.push(error),
  })

  get model(): PlayedModel {
    return this.models.at(-1)!
  }
  of<K extends ClientMessage['type']>(type: K): Said<K>[] {
    return this.said.filter((m): m is Said<K> => m.type === type)
  }
  hear(message: ServerMessage) {
    this.executor.handle({ type: 'server', message })
  }
  /** Frames of this kind that were sent, in order. */
  frames(kind: Frame['kind']) {
    return this.sent.filter(({ frame }) => frame.kind === kind)
  }
  get shards(): readonly Shard[] {
    return frameShape(config, stage).shards
  }
  /** A frame of this stage's, as `from` would send it. */
  take(from: string, kind: TensorKind, index: number, step: number, values: Float32Array<ArrayBuffer>, attempt = 0) {
    const boundary = kind === 'activation' ? stage - 1 : stage
    const address: TensorAddress = { kind, generation, step, index, boundary, attempt }
    this.executor.receive(from, tensorFrame(address, bytesOf(values), frameShape(config, stage)))
  }
  /** Both shards' parameters, all `value`, from their first owners. */
  takeParameters(step: number, value: number) {
    this.shards.forEach(({ length }, shard) =>
      this.take(OWNERS[shard]![0]!, 'parameterShard', shard, step, new Float32Array(length).fill(value)),
    )
  }
}

export const OWNERS = [
  ['o1', 'o2'],
  ['o2', 'o1'],
]
export const assignment: Assignment = {
  runId: 'run',
  runName: 'Run',
  generation,
  stage,
  config,
  dataset: { id: 'data', tokens: 1000, trainTokens: 900 },
  source: 'peers',
  checkpoint: { step: 0, stage: { stage, chunks: [] } },
  finish: null,
}
export const stepMessage = (change: Partial<Extract<ServerMessage, { type: 'step' }>> = {}) =>
  ({
    type: 'step',
    generation,
    step: 5,
    mode: 'train',
    version: 1,
    peers: ['up', 'down'],
    leases: [[0, 0, 1]],
    owners: OWNERS,
    committed: 4,
    window: 2,
    ...change,
  }) satisfies ServerMessage
/** What is hashed and signed on other threads, and has not come back. */
let elsewhere = 0
async function awaited<T>(work: Promise<T>): Promise<T> {
  elsewhere += 1
  try {
    return await work
  } finally {
    elsewhere -= 1
  }
}
const { subtle } = crypto
for (const name of ['digest', 'sign', 'verify'] as const) {
  const own = subtle[name].bind(subtle) as (...args: unknown[]) => Promise<unknown>
  Object.defineProperty(subtle, name, { value: (...args: unknown[]) => awaited(own(...args)) })
}
const turn = setImmediate

/** Everything that waits for nothing but promises is done. */
export const settled = async () => {
  do {
    if (elsewhere > 0) await new Promise((resolve) => turn(resolve))
    for (let j = 0; j < 40; j++) await Promise.resolve()
  } while (elsewhere > 0)
}
/** A boundary tensor of one microbatch. */
export const boundary = (value: number) => new Float32Array(rows * model.dModel).fill(value)
