/** Owns nothing: the former name of attention.ts, until its callers have changed. */
export * from './attention.ts'
