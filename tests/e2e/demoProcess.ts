/** Owns the demo as a process of a test's own, in a folder of its own. */
import { spawn, type ChildProcess } from 'node:child_process'
import path from 'node:path'

const command = path.resolve(import.meta.dirname, '..', '..', 'server', 'cli', 'demo.ts')

/**
 * @param folder where it runs; its temporary files go into `tmp` there
 * @param onOutput told everything printed so far, each time there is more
 */
export function runDemo(
  folder: string,
  args: string[],
  onOutput: (output: string, child: ChildProcess) => void = () => {},
): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, [command, ...args], {
    cwd: folder,
    env: { ...process.env, TMPDIR: path.join(folder, 'tmp') },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
      onOutput(output, child)
    })
  return new Promise((resolve) => child.on('close', (code) => resolve({ code, output })))
}
