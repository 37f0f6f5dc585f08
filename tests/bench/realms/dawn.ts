/** Owns the contenders on Dawn: a Node process for each. */
import { fork, type ChildProcess } from 'node:child_process'
import path from 'node:path'
import { dawnEnvironment } from '../../../server/cli/browser.mjs'
import type { Answer, Question } from './dawnProcess.ts'
import { remoteContender, type Realm } from './remote.ts'

interface Waiting {
  resolve(value: unknown): void
  reject(error: Error): void
}

export function openDawn(folder: string): Realm {
  const children: ChildProcess[] = []
  return {
    open(engine) {
      const child = fork(path.join(folder, `${engine}.js`), [], {
        env: { ...process.env, ...dawnEnvironment() },
        stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      })
      children.push(child)
      let said = ''
      child.stderr!.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-2000)))
      const waiting = new Map<number, Waiting>()
      let questions = 0
      child.on('message', ({ id, value, error }: Answer) => {
        const asked = waiting.get(id)
        waiting.delete(id)
        if (error === undefined) asked?.resolve(value)
        else asked?.reject(new Error(error))
      })
      const gone = () => {
        for (const { reject } of waiting.values()) reject(new Error(`The process of ${engine} ended: ${said.trim()}`))
        waiting.clear()
      }
      child.on('exit', gone)
      const contender = remoteContender((method, args) => {
        const id = questions++
        return new Promise((resolve, reject) => {
          waiting.set(id, { resolve, reject })
          if (!child.connected) return gone()
          child.send({ id, method, args } as Question)
        })
      })
      return Promise.resolve({ contender, close: () => end(child) })
    },
    async close() {
      await Promise.all(children.map(end))
    },
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill()
  await ended
}
