/** Proves that a node's receipts hold what went over its links, under a signature that anybody can verify. */
import { createHash } from 'node:crypto'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { clientMessageSchema } from '../../../src/protocol/control.ts'
import { entryOf, receiptText, signedReceiptSchema } from '../../../src/protocol/receipt.ts'
import { isClaimed } from '../../../src/stage/receiptWork.ts'
import { assignment, boundary, deviceId, generation, PlayedWorker, publicKey, settled, stage, stepMessage } from './playedWorker.ts' // prettier-ignore

let worker: PlayedWorker
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] })
  worker = new PlayedWorker()
  const words = { token: 't', heartbeatMs: 1000, iceServers: [], resumed: false, received: 0 }
  worker.hear({ type: 'welcome', nodeId: 'me', ...words })
})
afterEach(async () => {
  await worker.executor.close()
  vi.useRealTimers()
})

async function computed() {
  worker.hear({ type: 'assign', assignment })
  await settled()
  worker.hear(stepMessage())
  worker.takeParameters(4, 1)
  await settled()
  worker.take('up', 'activation', 0, 5, boundary(10))
  await settled()
  worker.take('down', 'gradient', 0, 5, boundary(20))
  await settled()
}

const digestOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex').slice(0, 32)
const bytesOf = (values: Float32Array) => new Uint8Array(values.buffer)

it('a receipt names the bytes that came and those that went, without their headers', async () => {
  await computed()
  const [message] = worker.of('receipt')
  expect(clientMessageSchema.parse(message)).toEqual(message)
  const { receipt } = message!
  expect(receipt).toMatchObject({ run: assignment.runId, generation, step: 5, leases: 1, stage, device: deviceId })
  expect(receipt.microbatches.map((row) => entryOf(receipt, row))).toEqual([
    {
      microbatch: 0,
      up: 'up',
      down: 'down',
      activationTaken: digestOf(bytesOf(boundary(10))),
      activationMade: digestOf(worker.frames('activation')[0]!.frame.payload),
      gradientTaken: digestOf(bytesOf(boundary(20))),
      gradientMade: digestOf(worker.frames('gradient')[0]!.frame.payload),
    },
  ])
})

it('its signature is the device’s, over every byte of it', async () => {
  await computed()
  const { receipt, signature } = signedReceiptSchema.parse(worker.of('receipt')[0])
  const verify = (text: string) =>
    crypto.subtle.verify('Ed25519', publicKey, Buffer.from(signature, 'hex'), new TextEncoder().encode(text))
  expect(await verify(receiptText(receipt))).toBe(true)
  expect(await verify(receiptText({ ...receipt, step: 6 }))).toBe(false)
})

it('a device whose key is gone computes on, and says why it will not be credited', async () => {
  worker.sign = () => Promise.reject(new Error('the key is gone'))
  await computed()
  expect(worker.of('receipt')).toEqual([])
  expect(worker.of('finished')).toHaveLength(1)
  expect(worker.failures).toMatchObject([{ message: 'the key is gone' }])
})

it('tensors of an evaluation, and weights, are not hashed', () => {
  expect(isClaimed({ kind: 'activation', step: 150 }, 150)).toBe(true)
  expect(isClaimed({ kind: 'gradient', step: 150 }, 150)).toBe(true)
  expect(isClaimed({ kind: 'activation', step: 151 }, 150)).toBe(false)
  expect(isClaimed({ kind: 'gradientShard', step: 1 }, 150)).toBe(true)
  expect(isClaimed({ kind: 'parameterShard', step: 1 }, 150)).toBe(false)
})
