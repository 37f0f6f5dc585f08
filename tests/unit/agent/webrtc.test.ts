/** Proves that a relay's credentials reach it as they were given, whatever characters they hold. */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { endWebRtc, installWebRtc } from '../../../src/agent/webrtc.ts'

installWebRtc()
afterEach(() => endWebRtc())

const USERNAME = 0x0006

/** STUN attributes (RFC 8489, section 14): type, length, value, padded to four bytes. */
function attribute(type: number, value: Buffer): Buffer {
  const bytes = Buffer.alloc(4 + 4 * Math.ceil(value.length / 4))
  bytes.writeUInt16BE(type, 0)
  bytes.writeUInt16BE(value.length, 2)
  value.copy(bytes, 4)
  return bytes
}

function attributeOf(message: Buffer, wanted: number): string | null {
  const end = 20 + message.readUInt16BE(2)
  for (let at = 20; at < end;) {
    const length = message.readUInt16BE(at + 2)
    if (message.readUInt16BE(at) === wanted) return message.toString('utf8', at + 4, at + 4 + length)
    at += 4 + 4 * Math.ceil(length / 4)
  }
  return null
}

it('asks a TURN server by the whole user name', async () => {
  const relay = createSocket('udp4').bind(0, '127.0.0.1')
  await once(relay, 'listening')
  const asked = new Promise<string>((resolve) => {
    relay.on('message', (message, { address, port }) => {
      const username = attributeOf(message, USERNAME)
      if (username !== null) return resolve(username)
      // 401: the client is to come back with its name.
      const challenge = Buffer.concat([
        attribute(0x0009, Buffer.from([0, 0, 4, 1])),
        attribute(0x0014, Buffer.from('realm')),
        attribute(0x0015, Buffer.from('nonce')),
      ])
      const header = Buffer.alloc(20)
      header.writeUInt16BE(message.readUInt16BE(0) | 0x0110, 0)
      header.writeUInt16BE(challenge.length, 2)
      message.copy(header, 4, 4, 20)
      relay.send(Buffer.concat([header, challenge]), port, address)
    })
  })
  const connection = new RTCPeerConnection({
    iceServers: [
      { urls: `turn:127.0.0.1:${relay.address().port}`, username: '1795258522:us/er@x', credential: 'a:b/c+d=@' },
    ],
  })
  connection.createDataChannel('x')
  await connection.setLocalDescription(await connection.createOffer())
  expect(await asked).toBe('1795258522:us/er@x')
  connection.close()
  relay.close()
})

describe('a connection that the other end closed', () => {
  /** @returns one end of a connection, at the moment in which it hears that the other has closed it */
  async function closedByTheOther(): Promise<RTCPeerConnection> {
    const [here, there] = [new RTCPeerConnection(), new RTCPeerConnection()]
    here.onicecandidate = ({ candidate }) => candidate && void there.addIceCandidate(candidate)
    there.onicecandidate = ({ candidate }) => candidate && void here.addIceCandidate(candidate)
    const opened = new Promise((resolve) => (here.ondatachannel = resolve))
    there.createDataChannel('x')
    await there.setLocalDescription(await there.createOffer())
    await here.setRemoteDescription(there.localDescription!)
    await here.setLocalDescription(await here.createAnswer())
    await there.setRemoteDescription(here.localDescription!)
    await opened
    const closed = new Promise<void>((resolve) => {
      here.onconnectionstatechange = () => here.connectionState === 'closed' && resolve()
    })
    there.close()
    await closed
    return here
  }

  it('is closed here too, for it holds native memory until then', async () => {
    const here = await closedByTheOther()
    const close = vi.spyOn(here, 'close')
    await vi.waitFor(() => expect(close).toHaveBeenCalled())
  })

  it('does not keep the end of WebRTC waiting, though that comes before it is closed here', async () => {
    vi.useFakeTimers({ toFake: ['setImmediate'] })
    try {
      await closedByTheOther()
      await new Promise((resolve) => setTimeout(resolve, 50))
      // It would throw after ten seconds.
      expect(endWebRtc).not.toThrow()
    } finally {
      vi.useRealTimers()
    }
  })
})
