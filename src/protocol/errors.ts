/** Owns the shape of every error that crosses a border: a code, a sentence and a remedy. */
import { z } from 'zod'

export const errorSchema = z.object({
  /** Stable and dotted, such as `run.heads_do_not_divide`; programs compare this, never the sentence. */
  code: z.string().max(80),
  /** One sentence for a person. */
  message: z.string().max(2000),
  /** What that person can do about it. */
  remedy: z.string().max(2000),
})

export type ErrorBody = z.infer<typeof errorSchema>

/** The only error class thrown on purpose; anything else that surfaces is a bug. */
export class SkeinError extends Error {
  readonly code: string
  readonly remedy: string

  constructor(body: ErrorBody, options?: ErrorOptions) {
    super(body.message, options)
    this.name = 'SkeinError'
    this.code = body.code
    this.remedy = body.remedy
  }

  toJSON(): ErrorBody {
    return { code: this.code, message: this.message, remedy: this.remedy }
  }
}

/** Throws a {@link SkeinError}; an expression, so that it can stand after `??`. */
export function fail(code: string, message: string, remedy: string): never {
  throw new SkeinError({ code, message, remedy })
}

/** Turns whatever was caught into an {@link ErrorBody} that can be sent or shown. */
export function toErrorBody(caught: unknown): ErrorBody {
  if (caught instanceof SkeinError) return caught.toJSON()
  const message = caught instanceof Error ? caught.message : String(caught)
  return {
    code: 'internal',
    message: message.slice(0, 2000) || 'Something failed without saying why.',
    remedy: 'Try again; if it happens twice, report it with the log.',
  }
}
