/** Owns what is said of a run before its launch: the work, its price, the time it may take, and the same on rented GPUs. */
import { z } from 'zod'
import { launchRequestSchema } from './api.ts'
import { paymentSchema } from './payment.ts'

export const quoteRequestSchema = launchRequestSchema
  .pick({ datasetId: true, config: true })
  .extend({ planckPerPflop: paymentSchema.shape.planckPerPflop.optional() })
export type QuoteRequest = z.input<typeof quoteRequestSchema>

const whole = z.string().regex(/^(0|[1-9]\d*)$/, 'must be a whole number in decimal')

/** What the time is reckoned from, or why there is none. */
const quotedTimeSchema = z.discriminatedUnion('known', [
  z.object({
    known: z.literal(true),
    seconds: z.number(),
    /** That would have a place in the run, of all that are connected. */
    devices: z.number(),
    /** Of the connected devices, those whose speed is known. */
    measured: z.number(),
    /** Model FLOPs a second of one device in the steps that it had part in: their mean. */
    flopsPerSecond: z.number(),
  }),
  z.object({ known: z.literal(false), reason: z.string() }),
])

/** A GPU as it is rented, and the run on one of them; more of them take less time and cost the same. */
export const cloudQuoteSchema = z.object({
  gpu: z.string(),
  /** FLOPs a second by the data sheet, dense. */
  peakFlops: z.number(),
  /** Share of the peak that becomes model FLOPs; assumed. */
  mfu: z.number(),
  dollarsPerHour: z.number(),
  /** Where the three figures are from. */
  sources: z.object({ peak: z.string(), mfu: z.string(), price: z.string() }),
  /** Month in which the price was looked up: `2026-04`. */
  asOf: z.string(),
  seconds: z.number(),
  dollars: z.number(),
})

export const quoteSchema = z.object({
  /** Model FLOPs of all steps, each made once. */
  credit: whole,
  creditPerStep: whole,
  /** Planck, rounded up; null without a price. */
  cost: whole.nullable(),
  costPerStep: whole.nullable(),
  time: quotedTimeSchema,
  clouds: z.array(cloudQuoteSchema),
})
export type Quote = z.infer<typeof quoteSchema>
