/** Owns a node at work: one GPU, one control socket, one set of links and the executor between them. */
import type { GpuContext } from '../gpu/device.ts'
import { createStage } from '../model/createStage.ts'
import { estimateStageMemory, memoryAfterFailure } from '../model/memory.ts'
import type { Tuning } from '../model/stageKernels.ts'
import type { PeerIdentity } from '../net/linkMessages.ts'
import { PeerLinks } from '../net/peerLinks.ts'
import type { NodePhase, NodeStats, ServerMessage } from '../protocol/control.ts'
import { SkeinError, toErrorBody, type ErrorBody } from '../protocol/errors.ts'
import { updateConfig } from '../protocol/lanes.ts'
import { PROTOCOL_VERSION } from '../protocol/version.ts'
import type { ChunkCache } from '../store/chunks.ts'
import { deviceKey } from '../store/deviceKey.ts'
import { ControlSocket, type Hello } from './controlSocket.ts'
import { proveDevice, type ProvenDevice, type ProvenMemory } from './deviceMemory.ts'
import { StageExecutor } from './executor.ts'
import { SignedReceipts } from './signedReceipts.ts'
import { putBytes } from './transfer.ts'
import type { StagePage, StageStart } from './workerContract.ts'

const STATS_INTERVAL_MS = 1000
/** Phases that end a wait or begin one; those of a step change too often to be told one by one. */
const news: ReadonlySet<NodePhase> = new Set(['compiling', 'loading', 'connecting', 'ready'])

export type NodeKind = Hello['kind']

/** What differs between a browser's Worker and the headless agent. */
export interface NodeHost {
  readonly kind: NodeKind
  acquireGpu(): Promise<GpuContext>
  /** Where the choice of kernels is kept from start to start, and the runtime it holds for. */
  readonly tuning: Required<Pick<Tuning, 'store' | 'runtime'>>
  /** Where checkpoints' chunks are kept from start to start. */
  readonly chunks: ChunkCache
  /** What a person is told when only a software adapter was found and none was asked for. */
  softwareOnly(adapterName: string): ErrorBody
}

/** Everything that lives from {@link startStageNode} to `stop`, in a browser's Worker and in the headless agent alike. */
export class StageNode {
  readonly #page: StagePage
  readonly #origin: string
  readonly #gpu: GpuContext
  readonly #links: PeerLinks
  readonly #executor: StageExecutor
  readonly #control: ControlSocket
  readonly #memory: ProvenMemory
  readonly #signed = new SignedReceipts()
  /** Said at each dial; it shrinks when the device turns out not to have it. */
  #memoryBytes: number
  /** What the stage made last takes, by formula. */
  #stageBytes = 0
  readonly #statsTimer: ReturnType<typeof setInterval>
  #heartbeat: ReturnType<typeof setInterval> | undefined
  /** What the server calls this node, and the token by which others know it; null before the first `welcome`. */
  #peer: PeerIdentity | null = null
  #phase: { phase: NodePhase; progress: number | null } = { phase: 'standby', progress: null }
  #paused = false

  constructor(
    { kind, tuning, chunks }: NodeHost,
    options: StageStart,
    page: StagePage,
    { gpu, memory }: ProvenDevice,
    port: MessagePort,
  ) {
    const key = deviceKey(options.device)
    this.#page = page
    this.#origin = new URL(options.apiUrl).origin
    this.#gpu = gpu
    this.#memory = memory
    this.#links = new PeerLinks(port)
    this.#executor = new StageExecutor({
      apiUrl: options.apiUrl,
      token: () => this.#peer?.token ?? '',
      key,
      chunks,
      createModel: ({ config, stage }, progress) => {
        this.#stageBytes = estimateStageMemory(config, stage).total
        return createStage(gpu, { config: updateConfig(config), stage }, this.#memoryBytes, {
          ...tuning,
          onProgress: (done, total) => progress(done / total),
        })
      },
      links: this.#links,
      report: (message) => {
        if (message.type === 'receipt') this.#signed.add(message)
        this.#control.send(message)
      },
      exhibit: (audit, kind, bytes, signal) => {
        const url = `${options.apiUrl}/audits/${audit}/exhibits/${kind}`
        return putBytes(url, this.#peer?.token ?? '', bytes.slice(), signal)
      },
      phase: (phase, progress) => this.#setPhase(phase, progress),
      assigned: ({ runId, runName, stage, config }) =>
        page.event({ type: 'assigned', run: { id: runId, name: runName }, stage, stages: config.stages }),
      failed: (error) => this.#onFailed(error),
    })
    this.#links.onFrame((from, bytes) => this.#executor.receive(from, bytes))
    this.#links.onLost((nodeId, error) => this.#executor.linkLost(nodeId, error))
    this.#memoryBytes = memory.memoryBytes
    const hello = () => ({
      type: 'hello' as const,
      protocol: PROTOCOL_VERSION,
      kind,
      adapter: gpu.adapter,
      memoryBytes: this.#memoryBytes,
      holding: this.#executor.holding,
    })
    this.#control = new ControlSocket(options.controlUrl, key, hello, {
      message: (message) => this.#onServer(message),
      lost: () => this.#onLost(),
      refused: (error) => page.event({ type: 'blocked', error }),
    })
    this.#statsTimer = setInterval(() => page.event({ type: 'stats', stats: this.#stats() }), STATS_INTERVAL_MS)
    void gpu.lost.then((error) => page.event({ type: 'deviceLost', error: error.toJSON() }))
  }

  pause(): void {
    this.#paused = true
    this.#control.send({ type: 'pause' })
    this.#executor.drop()
    this.#setPhase('paused', null)
  }

  resume(): void {
    this.#paused = false
    this.#setPhase('standby', null)
    this.#control.send({ type: 'resume' })
  }

  /** Says `leaving`, closes the links at once and frees the GPU as soon as it is idle. */
  async stop(): Promise<void> {
    this.#control.send({ type: 'leaving' })
    clearInterval(this.#statsTimer)
    clearInterval(this.#heartbeat)
    const said = this.#control.close()
    this.#links.close()
    await this.#executor.close()
    this.#gpu.destroy()
    await said
  }

  #onServer(message: ServerMessage): void {
    switch (message.type) {
      case 'welcome': {
        const { nodeId, token, iceServers, heartbeatMs, resumed } = message
        this.#executor.handle({ type: 'server', message })
        this.#identify({ nodeId, token, iceServers, relay: this.#origin })
        clearInterval(this.#heartbeat)
        this.#heartbeat = setInterval(() => this.#beat(), heartbeatMs)
        this.#page.event({ type: 'control', connected: true })
        // The work went on meanwhile.
        this.#page.event({ type: 'phase', ...this.#phase })
        if (this.#paused && !resumed) this.#control.send({ type: 'pause' })
        return
      }
      case 'token':
        if (this.#peer) this.#identify({ ...this.#peer, token: message.token, iceServers: message.iceServers })
        return
      case 'standby':
        this.#executor.handle({ type: 'server', message })
        if (!this.#paused) this.#setPhase('standby', null)
        this.#page.event({ type: 'standby', reason: message.reason })
        return
      case 'release':
        this.#executor.handle({ type: 'server', message })
        if (!this.#paused) this.#setPhase('standby', null)
        this.#page.event({ type: 'released', reason: message.reason })
        return
      case 'step':
        this.#executor.handle({ type: 'server', message })
        if (message.mode === 'train') this.#page.event({ type: 'step', step: message.step })
        return
      case 'credited':
        this.#page.event({
          type: 'credited',
          credited: message,
          signed: this.#signed.take(message.runId, message.step),
        })
        return
      default:
        this.#executor.handle({ type: 'server', message })
    }
  }

  #identify(peer: PeerIdentity): void {
    this.#peer = peer
    this.#links.openPeer(peer)
  }

  #onFailed(error: SkeinError): void {
    this.#page.event({ type: 'failed', error: error.toJSON() })
    if (error.code !== 'gpu.out_of_memory') return
    // As the server does when it hears of it.
    this.#memoryBytes = memoryAfterFailure(this.#memoryBytes, this.#stageBytes)
    this.#page.event({ type: 'memory', memory: { ...this.#memory, memoryBytes: this.#memoryBytes } })
  }

  /** Work goes on: what is to be said waits in the session, and a server that forgot it is told what this node holds. */
  #onLost(): void {
    clearInterval(this.#heartbeat)
    this.#page.event({ type: 'control', connected: false })
  }

  #beat(): void {
    this.#control.send({ type: 'heartbeat', ...this.#phase, stats: this.#stats() })
  }

  #setPhase(phase: NodePhase, progress: number | null): void {
    const before = this.#phase
    this.#phase = { phase, progress }
    if (before.phase === phase && before.progress === progress) return
    this.#page.event({ type: 'phase', phase, progress })
    // The console is to know at once what a node does; progress within a phase can wait for the heartbeat.
    if (before.phase !== phase && news.has(phase)) this.#beat()
  }

  #stats(): NodeStats {
    return { ...this.#executor.stats, ...this.#links.totals() }
  }
}

/**
 * Acquires the GPU and starts a node on it. `port` is for {@link PeerLinks}; its other end is a `PeerSession`'s.
 * @returns null where nothing was started: `page` was told `blocked`, and why
 */
export async function startStageNode(
  options: StageStart,
  page: StagePage,
  port: MessagePort,
  host: NodeHost,
): Promise<StageNode | null> {
  const acquire = async () => {
    const gpu = await host.acquireGpu()
    const { adapter } = gpu
    page.event({ type: 'adapter', adapter })
    if (!adapter.software || options.allowSoftware) return gpu
    gpu.destroy()
    throw new SkeinError(host.softwareOnly(adapter.description || adapter.vendor))
  }
  try {
    const { gpu, memory } = await proveDevice(acquire, options.memoryBytes)
    page.event({ type: 'memory', memory })
    return new StageNode(host, options, page, { gpu, memory }, port)
  } catch (caught) {
    page.event({ type: 'blocked', error: toErrorBody(caught) })
    return null
  }
}
