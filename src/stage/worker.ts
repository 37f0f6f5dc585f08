/** Owns the stage Worker of a page: the node that lives in it, driven by the page over Comlink. */
import * as Comlink from 'comlink'
import { acquireGpu } from '../gpu/device.ts'
import { browserChunks } from '../store/chunksOpfs.ts'
import { browserTuning } from '../store/tuning.ts'
import { startStageNode, type NodeHost, type StageNode } from './stageNode.ts'
import type { StageWorkerApi } from './workerContract.ts'

const host: NodeHost = {
  kind: 'browser',
  acquireGpu: () => acquireGpu(),
  tuning: { store: browserTuning(), runtime: navigator.userAgent },
  chunks: browserChunks(),
  softwareOnly: (name) => ({
    code: 'gpu.software_adapter',
    message: `This browser offers only a software adapter (${name}).`,
    remedy: 'Turn on hardware acceleration in the browser’s settings, or contribute anyway, slowly.',
  }),
}

let node: StageNode | null = null

const api: StageWorkerApi = {
  async start(options, page, links) {
    node = await startStageNode(options, page, links, host)
  },
  async pause() {
    node?.pause()
  },
  async resume() {
    node?.resume()
  },
  async stop() {
    await node?.stop()
    node = null
  },
}

Comlink.expose(api)
