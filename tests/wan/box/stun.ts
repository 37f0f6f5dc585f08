/** Owns the smallest STUN server: it tells a host by which address and port the network knows it (RFC 8489, Binding). */
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'

const BINDING_REQUEST = 0x0001
const BINDING_SUCCESS = 0x0101
const XOR_MAPPED_ADDRESS = 0x0020
const MAGIC_COOKIE = 0x2112a442

/** IPv4 alone. @returns its URL */
export async function startStun(address: string): Promise<{ url: string; close(): void }> {
  const socket: Socket = createSocket('udp4')
  socket.on('message', (request, { address: from, port }) => {
    if (request.byteLength < 20 || request.readUInt16BE(0) !== BINDING_REQUEST) return
    const answer = Buffer.alloc(32)
    answer.writeUInt16BE(BINDING_SUCCESS, 0)
    answer.writeUInt16BE(12, 2)
    // The cookie and the transaction.
    request.copy(answer, 4, 4, 20)
    answer.writeUInt16BE(XOR_MAPPED_ADDRESS, 20)
    answer.writeUInt16BE(8, 22)
    answer.writeUInt8(1, 25)
    answer.writeUInt16BE(port ^ (MAGIC_COOKIE >>> 16), 26)
    const four = from.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
    answer.writeUInt32BE((four ^ MAGIC_COOKIE) >>> 0, 28)
    socket.send(answer, port, from)
  })
  socket.bind(3479, address)
  await once(socket, 'listening')
  return { url: `stun:${address}:3479`, close: () => socket.close() }
}
