/** Owns the headless volunteer: the page's phase machine with a process around it instead of a page. */
import os from 'node:os'
import type { GpuContext } from '../gpu/device.ts'
import { SkeinError, type ErrorBody } from '../protocol/errors.ts'
import type { VolunteerEnvironment } from '../volunteer/environment.ts'
import { memoryOffered } from '../volunteer/preflight.ts'
import type { NodeHost } from '../stage/stageNode.ts'
import { createVolunteer } from '../volunteer/volunteer.ts'
import { softwareOnly } from './adapter.ts'
import type { AgentOptions } from './options.ts'
import { Report, type ReportLine } from './report.ts'
import { startAgentStage, type AgentStage } from './stageProcess.ts'
import type { AgentState } from './state.ts'

const PROGRESS_MS = 10_000
/** A phase shorter than this is not worth a line. */
const LASTING_MS = 100
const GIB = 1024 ** 3

export interface AgentSurroundings {
  state: AgentState
  /** A fresh device each time: the first one, and one after each loss. */
  acquireGpu(): Promise<GpuContext>
  tuning: NodeHost['tuning']
  chunks: NodeHost['chunks']
  say(line: ReportLine): void
}

export interface Agent {
  /** Resolves after `stop`, with every link closed and the GPU free. @throws SkeinError when only a person can help */
  readonly ended: Promise<void>
  stop(): void
  /** An error that nobody caught: the node starts anew, as a page's Worker would. */
  crash(error: ErrorBody): void
}

export function runAgent(options: AgentOptions, { state, acquireGpu, tuning, chunks, say }: AgentSurroundings): Agent {
  const stages = new Set<AgentStage>()
  let current: AgentStage | null = null
  const environment: VolunteerEnvironment = {
    address: () => ({ origin: options.origin, search: '' }),
    facts: () => ({ secureContext: true, webgpu: true, webrtc: true, locks: true, deviceMemoryGiB: null }),
    openDevice: () => Promise.resolve(state),
    openReceipts: () => Promise.resolve(state.receipts),
    seekLeadership(events) {
      // The state folder's lock has settled it.
      events.leading()
      return () => {}
    },
    startStage(request) {
      const stage = startAgentStage(request, { kind: 'agent', acquireGpu, tuning, chunks, softwareOnly })
      stages.add(stage)
      void stage.ended.then(() => stages.delete(stage))
      current = stage
      return stage
    },
    now: () => Date.now(),
    after(ms, run) {
      const timer = setTimeout(run, ms)
      return () => clearTimeout(timer)
    },
    onPage() {},
  }
  const volunteer = createVolunteer({
    allowSoftware: options.allowSoftware,
    memoryBytes: options.memoryBytes ?? memoryOffered(os.totalmem() / GIB),
    environment,
  })
  const report = new Report(options.origin)
  let lasting: ReturnType<typeof setTimeout> | undefined
  const tell = () => {
    clearTimeout(lasting)
    lasting = undefined
    for (const line of report.changes(volunteer.snapshot(), performance.now())) say(line)
  }
  const ended = new Promise<void>((resolve, reject) => {
    volunteer.subscribe(({ phase }) => {
      lasting ??= setTimeout(tell, LASTING_MS)
      if (phase.name !== 'stopped' && phase.name !== 'blocked') return
      tell()
      clearInterval(progress)
      const gone = Promise.all([...stages].map((stage) => stage.ended))
      void gone.then(() => (phase.name === 'blocked' ? reject(new SkeinError(phase.error)) : resolve()))
    })
  })
  const progress = setInterval(() => {
    const line = report.progress(volunteer.snapshot(), performance.now())
    if (line) say(line)
  }, PROGRESS_MS)
  volunteer.start()
  return { ended, stop: () => volunteer.stop(), crash: (error) => current?.crash(error) }
}
