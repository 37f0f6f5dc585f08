/** Owns the checkpoint a run starts from: the initial weights of every stage, cut into chunks. */
import { setImmediate } from 'node:timers/promises'
import { floatBytes } from '../../src/formats/safetensors.ts'
import { initialParameters } from '../../src/model/init.ts'
import { runLayouts } from '../../src/model/layout.ts'
import { CHUNK_ELEMENTS, type Chunk, type StageCheckpoint } from '../../src/protocol/control.ts'
import type { RunConfig } from '../../src/protocol/runConfig.ts'
import type { BlobStore } from '../db/store.ts'

/** Stores the parameters of step 0; the moments are zeros, which need no chunks. */
export async function writeInitialCheckpoint(blobs: BlobStore, config: RunConfig): Promise<StageCheckpoint[]> {
  const stages: StageCheckpoint[] = []
  for (const layout of runLayouts(config)) {
    const parameters = initialParameters(layout, config.seed)
    const chunks: Chunk[] = []
    for (let offset = 0; offset < parameters.length; offset += CHUNK_ELEMENTS) {
      const slice = parameters.subarray(offset, offset + CHUNK_ELEMENTS)
      const hash = await blobs.put(floatBytes(slice))
      chunks.push({ kind: 'parameters', offset, length: slice.length, hash })
    }
    stages.push({ stage: layout.stage, chunks })
    // Drawing a stage's weights takes long; sockets get a turn in between.
    await setImmediate()
  }
  return stages
}
