#!/usr/bin/env node
/**
 * Owns `npx skein …`: finds the Node that comes with the packages and runs the command on it. Plain JavaScript without
 * dependencies, for the system's Node from 20 on.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { localNode } from './setup.mjs'

const folder = path.dirname(fileURLToPath(import.meta.url))
const own = localNode(path.resolve(folder, '..', '..'))
const node = existsSync(own) ? own : process.execPath
const child = spawn(node, [path.join(folder, 'skein.ts'), ...process.argv.slice(2)], { stdio: 'inherit' })
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP']))
  process.on(signal, () => {
    // A terminal sends Ctrl-C to the child as well.
    if (!(signal === 'SIGINT' && process.stdin.isTTY)) child.kill(signal)
  })
child.on('error', (error) => {
  console.error(`skein: ${error.message}`)
  process.exit(1)
})
child.on('exit', (code, signal) => process.exit(code ?? (signal === 'SIGINT' ? 130 : 143)))
