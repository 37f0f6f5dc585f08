/** Owns where the agent keeps which kernels were the fastest on its adapter: a file in its state folder. */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import path from 'node:path'
import { z } from 'zod'
import type { NodeHost } from '../stage/stageNode.ts'

const fileSchema = z.record(z.string(), z.string())

/** Rejects where the file is broken or cannot be written; whoever asked measures anew, and the next `save` mends it. */
export function agentTuning(folder: string): NodeHost['tuning'] {
  const file = path.join(folder, 'kernels.json')
  const read = async () => fileSchema.parse(JSON.parse(await readFile(file, 'utf8')))
  return {
    runtime: `node ${process.versions.node} dawn ${dawnVersion()}`,
    store: {
      load: async (key) => (await read())[key] ?? null,
      async save(key, text) {
        const known = await read().catch(() => ({}))
        await mkdir(folder, { recursive: true, mode: 0o700 })
        await writeFile(`${file}.new`, `${JSON.stringify({ ...known, [key]: text }, null, 2)}\n`)
        await rename(`${file}.new`, file)
      },
    },
  }
}

const packageSchema = z.object({ version: z.string() })

/** A new Dawn brings a new shader compiler. */
function dawnVersion(): string {
  const require = createRequire(import.meta.url)
  return packageSchema.parse(require('webgpu/package.json')).version
}
