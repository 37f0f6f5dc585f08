/** Owns the page of the volunteer test: the real volunteer with the real stage Worker, and nothing around it. */
import { createVolunteer } from '../../../src/volunteer/volunteer.ts'
import type { Volunteer } from '../../../src/volunteer/snapshot.ts'

declare global {
  interface Window {
    volunteer: Volunteer
    /** Names of all phases so far, each once in a row. */
    phases: string[]
  }
}

window.phases = []
window.volunteer = createVolunteer()
window.volunteer.subscribe(({ phase }) => {
  if (window.phases.at(-1) !== phase.name) window.phases.push(phase.name)
})
