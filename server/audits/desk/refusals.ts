/** Owns what a convicted device is told. */
import type { ErrorBody } from '../../../src/protocol/errors.ts'

const until = (ms: number) => `${new Date(ms).toISOString().slice(0, 16).replace('T', ' ')} UTC`

const REMEDY =
  'If this device was not tampered with, its GPU or driver may compute wrongly: update the driver, and write to the operator, who can waive it.'

/** When it is found out. */
export const convictedError = (reason: string, shutUntil: number): ErrorBody => ({
  code: 'audit.convicted',
  message: `An audit found what this device claimed to be false (${reason}). It is shut out until ${until(shutUntil)}.`,
  remedy: REMEDY,
})

/** When it comes back before its time. */
export const shutOutError = (reason: string, shutUntil: number): ErrorBody => ({
  code: 'audit.shut_out',
  message: `This device is shut out until ${until(shutUntil)}, because of an audit: ${reason}.`,
  remedy: REMEDY,
})
