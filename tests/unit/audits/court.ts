/** Owns what the tests of the audits have to hand: a stage's replicas, claims, and evidence true and false. */
import { decideAudits, initialAudits } from '../../../server/audits/audits.ts'
import type { AuditPolicy } from '../../../server/audits/policy.ts'
import type {
  AuditCommand,
  AuditDraw,
  AuditEvent,
  AuditState,
  Claim,
  Evidence,
  Party,
} from '../../../server/audits/types.ts'
import { GRADIENT_WIDTH, ROW_WIDTH } from '../../../src/audit/sketch.ts'
import { noise } from '../../kernels/gpu.ts'

export const device = (n: number) => n.toString(16).padStart(64, '0')

export function party(n: number, wallet: string | null = null): Party {
  return { device: device(n), wallet, class: { vendor: 'google', architecture: 'swiftshader', products: 'f32' } }
}

export const replicas = [1, 2, 3, 4, 5, 6].map((n) => party(n))

/** Drawn for sure; the seed does not matter to made-up sketches. */
export const drawn: AuditDraw = { whether: 0, who: 0.4, seed: [1, 2] }
export const spared: AuditDraw = { whether: 0.999, who: 0.4, seed: [1, 2] }

const ROWS = 8
const input = noise(ROWS * ROW_WIDTH, 1)
const activation = input.map((x, i) => x + noise(1, i + 2)[0]!)

export const truth: Evidence = {
  input,
  activation,
  inputGradient: noise(ROWS * ROW_WIDTH, 3, 1e-4),
  parameterGradient: noise(4 * GRADIENT_WIDTH, 4, 1e-3),
}
export const copied: Evidence = { ...truth, activation: input }
export const zero: Evidence = { ...truth, activation: activation.map(() => 0) }
export const flipped: Evidence = { ...truth, parameterGradient: truth.parameterGradient!.map((x) => -x) }

let receipts = 0

export function claim(more: Partial<Claim> = {}): Claim {
  const digest = `digest ${++receipts}`
  return {
    ...{ run: 'run', generation: 1, step: 10, stage: 1, receipt: `receipt ${receipts}`, claimant: party(1) },
    ...{ neighbours: [device(90), device(91)], microbatches: [0, 3], codec: 'f16', credit: 1000n },
    glances: [{ kind: 'activation', finite: true, rms: 1, digest }],
    ...more,
  }
}

/** A court in session: its state, and what it said to every event. */
export class Court {
  readonly state: AuditState
  now = 1000
  readonly said: AuditCommand[] = []

  constructor(policy: Partial<AuditPolicy> = {}) {
    this.state = initialAudits(policy)
  }

  tell(event: AuditEvent extends infer E ? (E extends AuditEvent ? Omit<E, 'now'> : never) : never): AuditCommand[] {
    const commands = decideAudits(this.state, { ...event, now: this.now } as AuditEvent)
    this.said.push(...commands)
    return commands
  }

  claimed(one: Claim, draw = drawn, bench: readonly Party[] = replicas): AuditCommand[] {
    return this.tell({ type: 'claimed', claim: one, draw, replicas: bench })
  }

  /** Hears what was claimed, then every juror that is asked, until the audit is closed. */
  hear(
    audit: string,
    claimedEvidence: Evidence,
    says: (juror: string, nth: number) => Evidence | null,
  ): AuditCommand[] {
    const all = this.tell({ type: 'testified', audit, evidence: claimedEvidence })
    for (let nth = 0; this.state.audits.has(audit) && nth < 20; nth++) {
      const juror = this.state.audits.get(audit)!.jurors.find(({ evidence }) => evidence === null)
      if (!juror) break
      const evidence = says(juror.party.device, nth)
      const { device: asked } = juror.party
      all.push(
        ...(evidence
          ? this.tell({ type: 'answered', audit, device: asked, evidence })
          : this.tell({ type: 'excused', audit, device: asked })),
      )
    }
    return all
  }

  of<T extends AuditCommand['type']>(type: T, commands: readonly AuditCommand[] = this.said) {
    return commands.filter((command): command is Extract<AuditCommand, { type: T }> => command.type === type)
  }
}
