/** Owns the list of contenders: where each one's code is, its version, and where it can run. */
import { readFileSync } from 'node:fs'
import path from 'node:path'

export type Place = 'chromium' | 'dawn'

export interface EngineSpec {
  readonly name: string
  /** Module with `load(): Promise<Engine>`, relative to this folder. */
  readonly module: string
  /** The package that brings it; null for Skein itself. */
  readonly package: string | null
  readonly trains: boolean
}

export const SKEIN: EngineSpec = {
  name: 'skein',
  module: 'skein/engine.ts',
  package: null,
  trains: true,
}

export const PEERS: readonly EngineSpec[] = [
  { name: 'jax-js', module: 'peers/jaxJs.ts', package: '@jax-js/jax', trains: true },
  { name: 'tfjs-webgpu', module: 'peers/tfjs.ts', package: '@tensorflow/tfjs-core', trains: true },
  {
    name: 'onnxruntime-web',
    module: 'peers/onnxRuntime.ts',
    package: 'onnxruntime-web',
    trains: false,
  },
]

export const FOLDER = import.meta.dirname
export const ROOT = path.resolve(FOLDER, '..', '..')

/** Name and version, such as `tfjs-webgpu 4.22.0`. */
export function implOf(engine: EngineSpec): string {
  const file = path.join(engine.package ? FOLDER : ROOT, 'package.json')
  const manifest = JSON.parse(readFileSync(file, 'utf8')) as {
    version?: string
    dependencies: Record<string, string>
  }
  return `${engine.name} ${engine.package ? manifest.dependencies[engine.package] : manifest.version}`
}
