/** Owns the stage Worker: one GPU, one control socket, one set of links and the executor between them. */
import * as Comlink from 'comlink'
import { acquireGpu, type GpuContext } from '../gpu/device.ts'
import { createGpuStageModel } from '../model/gpuStageModel.ts'
import { PeerLinks } from '../net/peerLinks.ts'
import type { NodePhase, NodeStats, ServerMessage } from '../protocol/control.ts'
import { SkeinError, toErrorBody } from '../protocol/errors.ts'
import { PROTOCOL_VERSION } from '../protocol/version.ts'
import { ControlSocket } from './controlSocket.ts'
import { StageExecutor } from './executor.ts'
import type { StagePage, StageStart, StageWorkerApi } from './workerContract.ts'

const STATS_INTERVAL_MS = 1000

/** Everything that lives from `start` to `stop`. */
class StageWorker {
  readonly #page: StagePage
  readonly #gpu: GpuContext
  readonly #links: PeerLinks
  readonly #executor: StageExecutor
  readonly #control: ControlSocket
  readonly #statsTimer: ReturnType<typeof setInterval>
  #heartbeat: ReturnType<typeof setInterval> | undefined
  #token = ''
  #phase: { phase: NodePhase; progress: number | null } = { phase: 'standby', progress: null }
  #paused = false

  constructor(options: StageStart, page: StagePage, gpu: GpuContext, port: MessagePort) {
    this.#page = page
    this.#gpu = gpu
    this.#links = new PeerLinks(port)
    this.#executor = new StageExecutor({
      apiUrl: options.apiUrl,
      token: () => this.#token,
      createModel: ({ config, stage }) => createGpuStageModel(gpu, { config, stage }),
      links: this.#links,
      report: (message) => this.#control.send(message),
      phase: (phase, progress) => this.#setPhase(phase, progress),
      assigned: ({ runId, runName, stage, replica, members }) =>
        page.event({ type: 'assigned', run: { id: runId, name: runName }, stage, stages: members.length, replica }),
      failed: (error) => page.event({ type: 'failed', error: error.toJSON() }),
    })
    this.#links.onFrame((from, bytes) => this.#executor.receive(from, bytes))
    this.#links.onLost((nodeId) => this.#executor.linkLost(nodeId))
    const { deviceId, memoryBytes } = options
    const { adapter } = gpu
    this.#control = new ControlSocket(
      options.controlUrl,
      { type: 'hello', protocol: PROTOCOL_VERSION, deviceId, kind: 'browser', adapter, memoryBytes },
      {
        message: (message) => this.#onServer(message),
        lost: () => this.#onLost(),
        refused: (error) => page.event({ type: 'blocked', error }),
      },
    )
    this.#statsTimer = setInterval(() => page.event({ type: 'stats', stats: this.#stats() }), STATS_INTERVAL_MS)
    void gpu.lost.then((error) => page.event({ type: 'deviceLost', error: error.toJSON() }))
  }

  pause(): void {
    this.#paused = true
    this.#control.send({ type: 'pause' })
    this.#executor.drop()
    this.#links.setPartners([])
    this.#setPhase('paused', null)
  }

  resume(): void {
    this.#paused = false
    this.#setPhase('standby', null)
    this.#control.send({ type: 'resume' })
  }

  async stop(): Promise<void> {
    this.#control.send({ type: 'leaving' })
    clearInterval(this.#statsTimer)
    clearInterval(this.#heartbeat)
    this.#control.close()
    this.#links.close()
    await this.#executor.close()
    this.#gpu.destroy()
  }

  #onServer(message: ServerMessage): void {
    switch (message.type) {
      case 'welcome': {
        const { nodeId, token, iceServers, heartbeatMs } = message
        this.#token = token
        this.#links.openPeer({ nodeId, token, iceServers })
        clearInterval(this.#heartbeat)
        this.#heartbeat = setInterval(() => this.#beat(), heartbeatMs)
        this.#page.event({ type: 'control', connected: true })
        if (this.#paused) this.#control.send({ type: 'pause' })
        return
      }
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
      default:
        this.#executor.handle({ type: 'server', message })
    }
  }

  #onLost(): void {
    clearInterval(this.#heartbeat)
    this.#executor.drop()
    this.#links.setPartners([])
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
    if (before.phase !== phase && (phase === 'ready' || phase === 'loading' || phase === 'connecting')) this.#beat()
  }

  #stats(): NodeStats {
    return { ...this.#executor.stats, ...this.#links.totals() }
  }
}

let worker: StageWorker | null = null

const api: StageWorkerApi = {
  async start(options, page, links) {
    let gpu: GpuContext
    try {
      gpu = await acquireGpu()
    } catch (caught) {
      page.event({ type: 'blocked', error: toErrorBody(caught) })
      return
    }
    page.event({ type: 'adapter', adapter: gpu.adapter })
    if (gpu.adapter.software && !options.allowSoftware) {
      gpu.destroy()
      const error = new SkeinError({
        code: 'gpu.software_adapter',
        message: `This browser offers only a software adapter (${gpu.adapter.description || gpu.adapter.vendor}).`,
        remedy: 'Turn on hardware acceleration in the browser’s settings, or contribute anyway, slowly.',
      })
      page.event({ type: 'blocked', error: error.toJSON() })
      return
    }
    worker = new StageWorker(options, page, gpu, links)
  },
  async pause() {
    worker?.pause()
  },
  async resume() {
    worker?.resume()
  },
  async stop() {
    await worker?.stop()
    worker = null
  },
}

Comlink.expose(api)
