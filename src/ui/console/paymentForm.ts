/** Owns the way from what a person typed to what a run pays, or to a sentence at the field that is wrong. */
import { paymentSchema, type Payment } from '../../protocol/payment.ts'
import { exact } from '../words/quantities.ts'
import type { FormErrors } from './configForm.ts'

export const PRICE = 'payment.planckPerPflop'
export const BUDGET = 'payment.budget'

/** Both left empty: the run pays nobody. */
export function readPayment(price: string, budget: string): { payment: Payment | null; errors: FormErrors } {
  const typed = { planckPerPflop: digits(price), budget: digits(budget) }
  if (typed.planckPerPflop === '' && typed.budget === '') return { payment: null, errors: {} }
  const { data, error } = paymentSchema.safeParse(typed)
  if (data) return { payment: data, errors: {} }
  const wrong = new Set(error.issues.map(({ path }) => path[0]))
  const errors: FormErrors = {}
  if (wrong.has('planckPerPflop')) errors[PRICE] = 'Enter a whole number of planck, more than 0.'
  if (wrong.has('budget')) errors[BUDGET] = 'Enter a whole number of planck.'
  return { payment: null, errors }
}

/** The price by itself, as a quote takes it; undefined while none, or none that could be, is typed. */
export function readPrice(typed: string): string | undefined {
  return paymentSchema.shape.planckPerPflop.safeParse(digits(typed)).data
}

/** A budget above the one there is, or a sentence that says what is wrong with it. */
export function readRaise(typed: string, before: string): { budget: string } | { error: string } {
  const { data } = paymentSchema.shape.budget.safeParse(digits(typed))
  if (data === undefined) return { error: 'Enter a whole number of planck.' }
  if (BigInt(data) > BigInt(before)) return { budget: data }
  return { error: `Enter more than the ${exact(BigInt(before))} planck that it is now: a budget is never lowered.` }
}

/** People group long numbers; zeros in front mean nothing. */
function digits(typed: string): string {
  return typed.replace(/[\s,_]/g, '').replace(/^0+(?=\d)/, '')
}
