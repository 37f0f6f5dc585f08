/** Proves that a relay's credentials reach it as they were given, whatever characters they hold. */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { afterAll, expect, it } from 'vitest'
import { endWebRtc, installWebRtc } from '../../../src/agent/webrtc.ts'

installWebRtc()
afterAll(() => endWebRtc())

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
