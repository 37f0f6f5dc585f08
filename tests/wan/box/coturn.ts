/** Owns a coturn in the box, where one is installed: a TURN server over UDP and TCP, with the secret that Skein shares with it. */
import { spawn, spawnSync } from 'node:child_process'
import { connect } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import type { TurnService } from '../../../server/signalling/iceServers.ts'

const PORT = 3478
const SECRET = 'a secret of the box alone'

export interface Coturn {
  turn: TurnService
  close(): void
}

/** Null where no coturn is installed. */
export async function startCoturn(address: string): Promise<Coturn | null> {
  if (spawnSync('turnserver', ['--help'], { stdio: 'ignore' }).error) return null
  const child = spawn(
    'turnserver',
    [
      ['-n', '--no-cli', '--no-tls', '--no-dtls', '--realm=skein.test', '--log-file=stdout', '--pidfile=/dev/null'],
      ['--use-auth-secret', `--static-auth-secret=${SECRET}`],
      [`--listening-ip=${address}`, `--relay-ip=${address}`, `--listening-port=${PORT}`, '--fingerprint'],
    ].flat(),
    { stdio: 'ignore' },
  )
  for (let tries = 0; !(await listens(address)); tries++) {
    if (tries === 100 || child.exitCode !== null) throw new Error('coturn does not listen.')
    await pause(50)
  }
  const at = `${address}:${PORT}`
  const urls = [`turn:${at}?transport=udp`, `turn:${at}?transport=tcp`]
  return { turn: { urls, secret: SECRET, lifetimeMs: 600_000 }, close: () => child.kill() }
}

function listens(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(PORT, address)
    const answer = (open: boolean) => {
      socket.destroy()
      resolve(open)
    }
    socket.on('connect', () => answer(true))
    socket.on('error', () => answer(false))
  })
}
