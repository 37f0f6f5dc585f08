/** Owns the page of the chunk test: a Worker that loads weights over the browser's own file system. */
import * as Comlink from 'comlink'
import type { ChunkProbe } from './worker.ts'

const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' })
const probe = Comlink.wrap<ChunkProbe>(worker)

declare global {
  interface Window {
    chunkProbe: typeof probe
  }
}

window.chunkProbe = probe
