/** Owns how Node loads what the page's build loads for the page: shaders as text, and PeerJS as an ES module. */
import { readFileSync } from 'node:fs'
import { createRequire, registerHooks } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'

const require = createRequire(import.meta.url)
const RAW = '?raw'

registerHooks({
  resolve(specifier, context, next) {
    // Its CommonJS build, which Node would take, hides its names from `import`; bundlers take this file as well.
    if (specifier !== 'peerjs') return next(specifier, context)
    return { url: pathToFileURL(require.resolve('peerjs/dist/bundler.mjs')).href, shortCircuit: true }
  },
  load(url, context, next) {
    if (!url.endsWith(RAW)) return next(url, context)
    const text = readFileSync(fileURLToPath(url.slice(0, -RAW.length)), 'utf8')
    return { format: 'module', source: `export default ${JSON.stringify(text)}`, shortCircuit: true }
  },
})
