/** Owns one life of the agent's node: what a Worker and its page are in a browser, joined by a port in one process. */
import type { ErrorBody } from '../protocol/errors.ts'
import { toErrorBody } from '../protocol/errors.ts'
import type { StageEvent } from '../stage/workerContract.ts'
import { startStageNode, type NodeHost, type StageNode } from '../stage/stageNode.ts'
import type { StageProcess, StageProcessOptions } from '../volunteer/stageProcess.ts'
import { AGENT_SESSION } from './webrtc.ts'

export interface AgentStage extends StageProcess {
  /** Resolves once everything that belonged to it is gone, after `stop`. */
  readonly ended: Promise<void>
  /** Ends it for an error that nobody caught, as a Worker's would. */
  crash(error: ErrorBody): void
}

export function startAgentStage(options: StageProcessOptions, host: NodeHost): AgentStage {
  let stopped = false
  let closeSession = () => {}
  let resolveEnded: () => void = () => {}
  const ended = new Promise<void>((resolve) => (resolveEnded = resolve))

  async function begin(): Promise<StageNode | null> {
    const { PeerSession } = await import('../net/peerSession.ts')
    if (stopped) return null
    const { port1, port2 } = new MessageChannel()
    const session = new PeerSession({ port: port1, origin: options.origin, ...AGENT_SESSION })
    closeSession = () => session.close()
    const page = { event: (event: StageEvent) => (stopped ? undefined : options.event(event)) }
    return startStageNode(options.start, page, port2, host)
  }
  const node = begin()
  node.catch((caught: unknown) => crash(toErrorBody(caught)))

  function stop() {
    if (stopped) return
    stopped = true
    const left = node.then((started) => started?.stop())
    left.catch(() => {}).finally(resolveEnded)
    // The node's goodbye closes the links by this session; where there is no node, nobody else closes it.
    void node.catch(() => null).then(closeSession)
  }

  function crash(error: ErrorBody) {
    if (stopped) return
    stop()
    options.crashed(error)
  }

  const tell = (call: (node: StageNode) => void) =>
    void node.then((started) => started && call(started)).catch(() => {})
  return { pause: () => tell((n) => n.pause()), resume: () => tell((n) => n.resume()), stop, ended, crash }
}
