/** Owns the sentence in which the contribute page says what this device is doing, and the button that goes with it. */
import type { AdapterDescription, LinkKind } from '../../protocol/control.ts'
import type { VolunteerSnapshot } from '../../volunteer/snapshot.ts'
import { percent } from './quantities.ts'

/** How the phase feels at a glance: nothing runs, getting there, holding ready, at work, or a person must look. */
export type Mood = 'still' | 'busy' | 'standby' | 'working' | 'trouble'

export interface PhaseWords {
  readonly headline: string
  /** A second sentence where the first leaves a question open. */
  readonly detail: string
  readonly mood: Mood
  /** From 0 to 1 where the phase has a known end. */
  readonly progress: number | null
}

const words = (mood: Mood, headline: string, detail = '', progress: number | null = null): PhaseWords => ({
  headline,
  detail,
  mood,
  progress,
})

/** What the snapshot means, in words. Everything it says is in the snapshot; nothing is guessed. */
export function phaseWords(snapshot: VolunteerSnapshot): PhaseWords {
  const { phase } = snapshot
  const run = snapshot.run ? `“${snapshot.run.name}”` : 'the run'
  const place =
    snapshot.stage === null || snapshot.stages === null
      ? 'a stage'
      : `stage ${snapshot.stage + 1} of ${snapshot.stages}`
  switch (phase.name) {
    case 'idle':
      return words('still', 'Ready when you are', 'Nothing runs on your GPU yet.')
    case 'checking':
      return words('busy', 'Checking your GPU', 'Finding the adapter and reaching the server.')
    case 'blocked':
      return words('trouble', 'This device cannot contribute yet')
    case 'otherTab':
      return words(
        'still',
        'Another tab of this browser is contributing',
        'One tab per browser trains. This one takes over when that one closes.',
      )
    case 'waiting':
      if (snapshot.stage === null) return words('busy', 'Waiting for a run', phase.reason)
      return words(
        'standby',
        `Standing by for ${place} of ${run}`,
        `Your device holds the weights of stage ${snapshot.stage + 1} and steps in when another falls out.`,
      )
    case 'loading':
      return words(
        'busy',
        phase.progress === null ? 'Downloading weights' : `Downloading weights ${percent(phase.progress)}`,
        `The part of ${run} that is ${place}.`,
        phase.progress,
      )
    case 'compiling':
      return words('busy', 'Compiling for your GPU', `Preparing ${place} of ${run}.`)
    case 'connecting':
      return words('busy', 'Connecting to the neighbouring devices', `For ${place} of ${run}.`)
    case 'ready':
      return words('busy', 'Ready for the next step', `Holding ${place} of ${run}; waiting for the others.`)
    case 'training':
      return words('working', `Training ${place} of ${run}`, 'Your GPU computes its part of every step.')
    case 'merging':
      return words('working', `Training ${place} of ${run}`, 'Merging the gradients with the other replicas.')
    case 'evaluating':
      return words('working', `Evaluating ${place} of ${run}`, 'Scoring text the model has never trained on.')
    case 'checkpointing':
      return words('working', `Saving a checkpoint of ${place}`, `Uploading this part of ${run}.`)
    case 'paused':
      return words('still', 'Paused', 'Nothing runs on your GPU until you resume.')
    case 'reconnecting':
      if (snapshot.stage === null)
        return words('busy', 'Reconnecting to the server', 'The connection dropped and is being redialled.')
      return words(
        'busy',
        'Connection to the server lost',
        `Your device goes on with ${place} of ${run}; the session resumes by itself.`,
      )
    case 'lostDevice':
      return words('trouble', 'GPU lost, restarting', `${phase.error.message} ${phase.error.remedy}`)
    case 'stopped':
      return words('still', 'Stopped', 'Thank you for what you gave.')
  }
}

/** What a screen reader hears; it keeps still while only a percentage or a part of a step changes. */
export function announcement(snapshot: VolunteerSnapshot): string {
  const { phase } = snapshot
  if (phase.name === 'idle') return ''
  if (phase.name === 'blocked') return `${phaseWords(snapshot).headline}. ${phase.error.message} ${phase.error.remedy}`
  if (phase.name === 'loading') return 'Downloading weights'
  if (phase.name === 'waiting' && snapshot.stage === null) return `Waiting for a run: ${phase.reason}`
  return phaseWords(snapshot).headline
}

export type PrimaryAction = 'start' | 'pause' | 'resume' | 'retry' | 'stop'

/** What the one button does in this phase. */
export function primaryAction(snapshot: VolunteerSnapshot): PrimaryAction {
  switch (snapshot.phase.name) {
    case 'idle':
    case 'stopped':
      return 'start'
    case 'blocked':
      return 'retry'
    case 'paused':
      return 'resume'
    case 'otherTab':
      return 'stop'
    default:
      return 'pause'
  }
}

export const actionLabel: Record<PrimaryAction, string> = {
  start: 'Start contributing',
  pause: 'Pause',
  resume: 'Resume',
  retry: 'Try again',
  stop: 'Stop waiting',
}

export const linkWords: Record<LinkKind, { label: string; hint: string }> = {
  direct: { label: 'Direct', hint: 'Tensors go straight to the neighbouring devices.' },
  relayed: { label: 'Relayed (TURN)', hint: 'No direct path opened; tensors pass through a TURN relay.' },
  server: {
    label: 'Through the server',
    hint: 'Neither a direct path nor a TURN relay opened; tensors pass through this server, slowly and within a cap.',
  },
  unknown: { label: 'No peers yet', hint: 'Known once a neighbouring device is connected.' },
}

/** The adapter as a person knows it, such as `NVIDIA ampere`. */
export function adapterName(adapter: Pick<AdapterDescription, 'vendor' | 'architecture' | 'description'>): string {
  if (adapter.description) return adapter.description
  const name = [adapter.vendor, adapter.architecture].filter(Boolean).join(' ')
  return name || 'Unnamed adapter'
}
