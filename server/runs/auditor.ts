/** Owns what of a run's decisions is the audit desk's business. */
import type { AuditDesk } from '../audits/desk/desk.ts'
import type { OrchestratorCommand } from '../orchestrator/types.ts'

/** Who audits what nodes claim. */
export type Auditor = Pick<AuditDesk, 'claimed' | 'said' | 'disputed' | 'scored'>
type Told = Extract<OrchestratorCommand, { type: 'claimed' | 'disputed' | 'scored' }>

export const isForAuditor = (command: OrchestratorCommand): command is Told =>
  command.type === 'claimed' || command.type === 'disputed' || command.type === 'scored'

export function tellAuditor(auditor: Auditor | null, command: Told): void {
  switch (command.type) {
    case 'claimed':
      void auditor?.claimed(command.claim, command.replicas, command.reserves)
      return
    case 'disputed':
      auditor?.disputed(command.devices)
      return
    case 'scored':
      auditor?.scored(command.runId, command.losses)
  }
}
