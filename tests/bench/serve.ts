/** Owns the inside of a page or process that holds one engine: prepares its work, judges it and takes its time. */
import { stageLayouts } from '../../src/model/layout.ts'
import { initialParameters } from '../../src/model/init.ts'
import type { Contender, Engine, Kernel, Training } from './contender.ts'
import { countGpuWork } from './gpuWork.ts'
import { operandsOf, resultError } from './operands.ts'
import { stepInput, WORKS } from './works.ts'
import type { Work } from './works.ts'

const SOFTWARE = /swiftshader|llvmpipe|lavapipe|software/i

async function adapterOf(): Promise<{ adapter: string; software: boolean }> {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: 'high-performance' })
  if (!adapter) return { adapter: '', software: false }
  const { vendor, architecture, device, description, isFallbackAdapter } = adapter.info
  const text = description || device || [vendor, architecture].filter(Boolean).join(' ') || 'unnamed'
  const software = isFallbackAdapter || SOFTWARE.test(`${vendor} ${architecture} ${device} ${description}`)
  return { adapter: text, software }
}

/** `load` starts the engine; it is called once WebGPU is being counted. */
export function contenderOf(load: () => Promise<Engine>): Contender {
  let engine: Engine
  let kernel: Kernel | null = null
  let training: Training | null = null
  let work: Work
  const counted = countGpuWork()

  return {
    async start() {
      const adapter = await adapterOf()
      if (adapter.adapter) engine = await load()
      return adapter
    },

    async prepareKernel(which) {
      const operands = operandsOf(which)
      kernel = (await engine.kernel?.(which, operands)) ?? null
      if (!kernel) return null
      await kernel.run(1)
      return { error: resultError(which, operands, await kernel.result()) }
    },

    async runKernel(times) {
      const start = performance.now()
      await kernel!.run(times)
      return performance.now() - start
    },

    async releaseKernel() {
      await kernel?.release()
      kernel = null
    },

    async prepareTraining(name) {
      work = WORKS[name]
      const layout = stageLayouts(work.config.model, 1)[0]!
      training = await engine.training!(work.config, initialParameters(layout, work.config.seed))
    },

    async train(first, count) {
      const inputs = Array.from({ length: count }, (_, i) => stepInput(work.config, first + i))
      const losses: number[] = []
      const start = performance.now()
      for (const input of inputs) losses.push(await training!.step(input))
      return { losses, milliseconds: performance.now() - start }
    },

    gpuWork: () => Promise.resolve(counted?.() ?? null),

    async releaseTraining() {
      await training?.release()
      training = null
    },
  }
}
