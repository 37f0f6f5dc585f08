import { describe, expect, it } from 'vitest'
import { clientMessageSchema, MAX_CONTROL_BYTES } from '../../../src/protocol/control.ts'
import {
  entryOf,
  MAX_RECEIPT_MICROBATCHES,
  receiptSchema,
  receiptsOf,
  receiptText,
  type ReceiptEntry,
} from '../../../src/protocol/receipt.ts'

const digest = (n: number) => n.toString(16).padStart(32, '0')
const about = { run: 'run', generation: 2, step: 7, leases: 1, stage: 1, device: 'a'.repeat(64), shares: [] }
const entry = (microbatch: number): ReceiptEntry<string> => ({
  microbatch,
  up: `up${microbatch % 3}`,
  down: null,
  activationTaken: digest(microbatch),
  activationMade: null,
  gradientTaken: null,
  gradientMade: digest(microbatch + 1),
})

describe('receipts', () => {
  it('give back the entries they were made of', () => {
    const entries = [entry(0), entry(1), entry(5)]
    const [receipt] = receiptsOf(about, entries)
    expect(receiptSchema.parse(receipt)).toEqual(receipt)
    expect(receipt!.microbatches.map((row) => entryOf(receipt!, row))).toEqual(entries)
  })

  it('are as many as 4096 leases need, each within a control message', () => {
    const long = (n: number, m: number) => `n${String(n).padStart(2, '0')}${String(m).padStart(61, 'x')}`
    const entries = Array.from({ length: 4096 }, (_, m) => ({
      ...entry(4_294_960_000 + m),
      up: long(m % 64, 1),
      down: long(m % 64, 2),
      activationMade: digest(3),
      gradientTaken: digest(4),
    }))
    const receipts = receiptsOf(about, entries)
    expect(receipts).toHaveLength(4096 / MAX_RECEIPT_MICROBATCHES)
    for (const receipt of receipts) {
      const message = { type: 'receipt', generation: 2, receipt, signature: 'b'.repeat(128) }
      expect(clientMessageSchema.safeParse(message).success).toBe(true)
      expect(JSON.stringify(message).length).toBeLessThan(MAX_CONTROL_BYTES - 1000)
    }
    expect(receipts.flatMap(({ microbatches }) => microbatches)).toHaveLength(4096)
  })

  it('are signed as texts of which each tells of every field', () => {
    const [receipt] = receiptsOf(about, [entry(0), entry(1)])
    const text = receiptText(receipt!)
    expect(text.startsWith('skein-receipt-v2\n[2,"run",2,7,1,1,"aaaa')).toBe(true)
    const other = (change: object) => receiptText({ ...receipt!, ...change })
    const texts = [
      text,
      other({ run: 'ruN' }),
      other({ generation: 3 }),
      other({ step: 8 }),
      other({ leases: 2 }),
      other({ stage: 0 }),
      other({ device: 'b'.repeat(64) }),
      other({ peers: ['up1', 'up0'] }),
      other({ microbatches: receipt!.microbatches.slice(1) }),
      other({ shares: ['c'.repeat(32)] }),
    ]
    expect(new Set(texts).size).toBe(texts.length)
  })
})
