/** Owns compiled compute pipelines, each compiled once per device and looked up by its text. */
import { SkeinError } from '../protocol/errors.ts'

export type BindingKind = 'uniform' | 'read' | 'write'

export interface CompiledPipeline {
  readonly pipeline: GPUComputePipeline
  readonly layout: GPUBindGroupLayout
  /** By binding number, all in group 0. */
  readonly bindings: readonly BindingKind[]
}

const COMPUTE = 0x4 // GPUShaderStage.COMPUTE: no global in Node.
const BINDING = /@group\(0\)\s*@binding\((\d+)\)\s*var<\s*(uniform|storage)\s*(?:,\s*(read_write|read)\s*)?>/g

/** The bindings a WGSL text declares in group 0; they must be numbered from 0 without a gap. */
export function bindingsOf(source: string): BindingKind[] {
  const kinds: BindingKind[] = []
  for (const [, number, space, access] of source.matchAll(BINDING)) {
    kinds[Number(number)] = space === 'uniform' ? 'uniform' : access === 'read_write' ? 'write' : 'read'
  }
  if (kinds.length === 0 || kinds.includes(undefined as never)) throw new RangeError('Bindings must be 0, 1, 2, …')
  return kinds
}

/** The key is the finished text itself (a Map hashes it) and the entry point, so equal templates share a pipeline. */
export class PipelineCache {
  readonly #device: GPUDevice
  readonly #compiled = new Map<string, Promise<CompiledPipeline>>()

  constructor(device: GPUDevice) {
    this.#device = device
  }

  /** Pipelines compiled or compiling. */
  get size(): number {
    return this.#compiled.size
  }

  /** Compiles, or finds, the pipeline of `source`. Throws `gpu.shader` with the offending lines. */
  get(source: string, label: string, entry = 'main'): Promise<CompiledPipeline> {
    const key = `${entry}\n${source}`
    let compiled = this.#compiled.get(key)
    if (!compiled) {
      compiled = this.#compile(source, label, entry)
      this.#compiled.set(key, compiled)
    }
    return compiled
  }

  async #compile(source: string, label: string, entry: string): Promise<CompiledPipeline> {
    const bindings = bindingsOf(source)
    const device = this.#device
    const layout = device.createBindGroupLayout({
      label,
      entries: bindings.map((kind, binding) => ({
        binding,
        visibility: COMPUTE,
        buffer:
          kind === 'uniform'
            ? { type: 'uniform', hasDynamicOffset: true }
            : { type: kind === 'read' ? 'read-only-storage' : 'storage' },
      })),
    })
    // Caught here, so that a faulty text ends in one SkeinError and not in an uncaptured device error as well.
    device.pushErrorScope('validation')
    const module = device.createShaderModule({ label, code: source })
    const scope = device.popErrorScope()
    try {
      const pipeline = await device.createComputePipelineAsync({
        label,
        layout: device.createPipelineLayout({ label, bindGroupLayouts: [layout] }),
        compute: { module, entryPoint: entry },
      })
      return { pipeline, layout, bindings }
    } catch (caught) {
      const info = await module.getCompilationInfo()
      const lines = source.split('\n')
      const told = info.messages
        .filter((message) => message.type === 'error')
        .map((m) => `line ${m.lineNum}: ${m.message}\n    ${lines[m.lineNum - 1]?.trim() ?? ''}`)
      const reason = told.length > 0 ? told.join('\n') : caught instanceof Error ? caught.message : String(caught)
      throw new SkeinError({
        code: 'gpu.shader',
        message: `The kernel ${label} does not compile: ${reason}`.slice(0, 2000),
        remedy: 'This is a fault in Skein or in the driver; report it with this text.',
      })
    } finally {
      await scope.catch(() => null)
    }
  }
}
