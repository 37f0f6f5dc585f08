import { createHash } from 'node:crypto'
import { expect, it } from 'vitest'
import { checkReceipt } from '../../../server/runs/receiptCheck.ts'
import { receiptsOf, receiptText, type Receipt } from '../../../src/protocol/receipt.ts'
import { signReceipts } from '../../../src/stage/receiptWork.ts'
import { testDevice } from '../deviceKeys.ts'

const [device, other] = [testDevice(1), testDevice(2)]
const about = { run: 'r1', generation: 2, step: 3, leases: 1, stage: 1, shares: [] }
const entry = {
  microbatch: 4,
  up: 'n1',
  down: null,
  activationTaken: 'a'.repeat(32),
  activationMade: null,
  gradientTaken: null,
  gradientMade: 'b'.repeat(32),
}
const receipt = receiptsOf({ ...about, device: device.id }, [entry])[0]!
const code = (of: Receipt, signature: string, id = device.id) =>
  checkReceipt({ receipt: of, signature }, id).fault?.code
const signed = (of: Receipt, by = device) => by.signHex(new TextEncoder().encode(receiptText(of)))

it('a receipt that its device signed is genuine, and named by the hash of text and signature', async () => {
  const [made] = await signReceipts(
    about,
    [{ ...entry, gradientMade: Promise.resolve(entry.gradientMade) }],
    [],
    device,
  )
  expect(made!.receipt).toEqual(receipt)
  const { hash, fault } = checkReceipt(made!, device.id)
  expect(fault).toBeNull()
  expect(hash).toBe(
    createHash('sha256')
      .update(`${receiptText(receipt)}\n${made!.signature}`)
      .digest('hex'),
  )
})

it('an altered one is not', () => {
  const signature = signed(receipt)
  expect(code(receipt, signature)).toBeUndefined()
  const [row] = receipt.microbatches
  const altered: Partial<Receipt>[] = [
    { step: 4 },
    { run: 'r2' },
    { generation: 3 },
    { leases: 2 },
    { stage: 0 },
    { peers: ['n2'] },
    { microbatches: [[5, ...row!.slice(1)] as unknown as NonNullable<typeof row>] },
    { microbatches: [row!, row!] },
  ]
  for (const change of altered) expect(code({ ...receipt, ...change }, signature)).toBe('receipt.signature')
  expect(
    code(
      receipt,
      signature.replace(/^../, (two) => (two === '00' ? '01' : '00')),
    ),
  ).toBe('receipt.signature')
})

it('one that another key signed is not', () => {
  expect(code(receipt, signed(receipt, other))).toBe('receipt.signature')
})

it('another device’s genuine one is refused for what it is', () => {
  const theirs = { ...receipt, device: other.id }
  expect(code(theirs, signed(theirs, other))).toBe('receipt.device')
})

it('a signature of the same bytes without their domain is none', () => {
  const bare = receiptText(receipt).replace('skein-receipt-v2\n', '')
  expect(code(receipt, device.signHex(new TextEncoder().encode(bare)))).toBe('receipt.signature')
})
