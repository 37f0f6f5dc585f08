/** Owns the one contribution of this page. */
import { Contribution } from './contribution.svelte.ts'

export const contribution = new Contribution({
  load: async () => (await import('../../volunteer/volunteer.ts')).createVolunteer(),
  storage: storageOrNull(),
})

/** Reading the property itself throws where storage is forbidden. */
function storageOrNull(): Storage | null {
  try {
    return localStorage
  } catch {
    return null
  }
}
