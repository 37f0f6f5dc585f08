/** Owns the refusals that more than one place gives. */
import type { ErrorBody } from '../../src/protocol/errors.ts'

export const deviceRevoked = (deviceId: string): ErrorBody => ({
  code: 'identity.device_revoked',
  message: `The device ${deviceId} was revoked by its wallet; its key is void for good.`,
  remedy: 'Make a new key: clear this site’s data, or move the agent’s device.key away.',
})

export const CHALLENGE_USED: ErrorBody = {
  code: 'identity.challenge_used',
  message: 'This challenge was used before; each is good for one signature.',
  remedy: 'Ask for a new challenge and sign that one.',
}
