/** Owns the server as a process of its own, so that it can be killed and started again on the same port and data. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { fail } from '../../../../src/protocol/errors.ts'

const START_MS = 30_000
const KEPT_CHARACTERS = 4000

export interface ServerProcess {
  /** Such as `http://127.0.0.1:43210`; it stays the same. */
  readonly origin: string
  /** As `kill -9` does it: nothing is closed, nothing said. Resolves when the process is gone. */
  kill(): Promise<void>
  /** @throws SkeinError `demo.server` when it does not listen in time, with what it said */
  restart(): Promise<void>
  /** Ends it in order, or by force where that takes long. */
  close(): Promise<void>
  /** The end of what it wrote to stderr and stdout, over all its lives. */
  said(): string
}

/** @throws SkeinError `demo.server` */
export async function startServerProcess(dataFolder: string): Promise<ServerProcess> {
  let said = ''
  let child: ChildProcess | null = null
  const killAtExit = () => child?.kill('SIGKILL')
  process.once('exit', killAtExit)

  async function start(port: string): Promise<string> {
    const started = spawn(process.execPath, [fileURLToPath(new URL('../../../main.ts', import.meta.url))], {
      env: {
        ...process.env,
        SKEIN_HOST: '127.0.0.1',
        SKEIN_PORT: port,
        SKEIN_DATA: dataFolder,
        SKEIN_LOG: 'error',
        SKEIN_RATE_PER_MINUTE: '1000000',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
      // A terminal's Ctrl-C is for the demo, which closes it in its own order.
      detached: process.platform !== 'win32',
    })
    child = started
    const origin = await new Promise<string | null>((resolve) => {
      let out = ''
      for (const stream of [started.stdout, started.stderr])
        stream.setEncoding('utf8').on('data', (text: string) => {
          said = (said + text).slice(-KEPT_CHARACTERS)
          out += text
          const at = /^Skein is at (http:\S+?)\/? /m.exec(out)
          if (at) resolve(at[1]!)
        })
      started.on('error', () => resolve(null))
      started.on('exit', () => resolve(null))
      setTimeout(() => resolve(null), START_MS).unref()
    })
    return (
      origin ?? fail('demo.server', `The server did not start: ${said.trim()}`, 'Mend what it says, then try again.')
    )
  }

  async function end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const ending = child
    child = null
    if (!ending || ending.exitCode !== null || ending.signalCode !== null) return
    const gone = once(ending, 'exit')
    ending.kill(signal)
    const force = setTimeout(() => ending.kill('SIGKILL'), 5000)
    await gone
    clearTimeout(force)
  }

  const origin = await start('0')
  return {
    origin,
    kill: () => end('SIGKILL'),
    restart: async () => void (await start(new URL(origin).port)),
    async close() {
      await end('SIGTERM')
      process.off('exit', killAtExit)
    },
    said: () => said,
  }
}
