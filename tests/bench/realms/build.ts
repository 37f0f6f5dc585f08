/** Owns the bundles that pages and Dawn processes load: one module for each engine, built by Vite. */
import path from 'node:path'
import { build } from 'vite'
import { FOLDER, type EngineSpec, type Place } from '../engines.ts'

/** Beside the peers, so that what stays outside a bundle is found; ignored by every tool as a cache. */
const OUT = path.join(FOLDER, 'node_modules', '.cache')

const VIRTUAL = 'virtual:engine/'

/** An entry that serves one engine: a page's global, or a process that answers messages. */
function entryText(place: Place, engine: EngineSpec): string {
  const file = (name: string) => JSON.stringify(path.join(FOLDER, ...name.split('/')))
  return [
    // First, so that an engine which looks for WebGPU while it loads finds it.
    ...(place === 'dawn' ? [`import { answerParent } from ${file('realms/dawnProcess.ts')}`] : []),
    `import { contenderOf } from ${file('serve.ts')}`,
    `const contender = contenderOf(async () => (await import(${file(engine.module)})).load())`,
    place === 'dawn' ? 'answerParent(contender)' : 'globalThis.contender = contender',
  ].join('\n')
}

/** Builds the engines' bundles for one place; returns the folder that holds `<name>.js` for each of them. */
export async function buildEngines(place: Place, engines: readonly EngineSpec[]): Promise<string> {
  const outDir = path.join(OUT, place)
  const byName = new Map(engines.map((engine) => [engine.name, engine]))
  await build({
    configFile: false,
    root: FOLDER,
    publicDir: false,
    logLevel: 'error',
    plugins: [
      {
        name: 'engine-entries',
        resolveId: (id) => (id.startsWith(VIRTUAL) ? `\0${id}` : null),
        load(id) {
          const engine = id.startsWith(`\0${VIRTUAL}`) ? byName.get(id.slice(VIRTUAL.length + 1)) : undefined
          return engine ? entryText(place, engine) : null
        },
      },
    ],
    // Native code, and WebAssembly that is looked for beside its module, stay where they are.
    ...(place === 'dawn' && { ssr: { noExternal: true, external: ['webgpu', 'onnxruntime-web'] } }),
    build: {
      target: 'es2023',
      outDir,
      emptyOutDir: true,
      ssr: place === 'dawn',
      modulePreload: false,
      minify: false,
      assetsInlineLimit: 0,
      chunkSizeWarningLimit: 100_000,
      rollupOptions: {
        input: Object.fromEntries(engines.map(({ name }) => [name, VIRTUAL + name])),
        output: { entryFileNames: '[name].js' },
      },
    },
  })
  return outDir
}
