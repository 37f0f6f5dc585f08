/** Owns the installation of the peers: on demand, in this folder, never with Skein's own packages. */
import { spawnSync } from 'node:child_process'
import { existsSync, statSync } from 'node:fs'
import path from 'node:path'
import { FOLDER, PEERS, type EngineSpec } from '../engines.ts'

function upToDate(): boolean {
  const installed = path.join(FOLDER, 'node_modules', '.package-lock.json')
  return (
    existsSync(installed) && statSync(installed).mtimeMs >= statSync(path.join(FOLDER, 'package-lock.json')).mtimeMs
  )
}

/** Those peers that are here after trying to install what is missing; says which are not. */
export function installedPeers(say: (line: string) => void): EngineSpec[] {
  if (!upToDate()) {
    say('Installing the peers (npm ci in tests/bench); about 220 MB.')
    const { status, stderr } = spawnSync(
      'npm',
      ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'],
      {
        cwd: FOLDER,
        encoding: 'utf8',
        stdio: ['ignore', 'ignore', 'pipe'],
        shell: process.platform === 'win32',
      },
    )
    if (status !== 0) say(`npm could not install them: ${stderr?.trim().split('\n')[0] ?? 'npm is missing'}`)
  }
  return PEERS.filter((peer) => {
    const here = existsSync(path.join(FOLDER, 'node_modules', peer.package!, 'package.json'))
    if (!here) say(`${peer.name} is left out: it is not installed.`)
    return here
  })
}
