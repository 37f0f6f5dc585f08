/**
 * Owns the check that the owners of a shard summed what was signed for: whoever signs for one share and sends another is named
 * by everybody that it was sent to.
 */
import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js'
import { sumText, type Digest } from '../../src/protocol/receipt.ts'
import { failGeneration } from './generations.ts'
import { moveLeases } from './leases.ts'
import { applyWhenWhole, tellOwners } from './merge.ts'
import { ACTIVE } from './owners.ts'
import type { StageProgress } from './round.ts'
import type { FleetNode, OrchestratorCommand, OrchestratorState, Run, RunMessage } from './types.ts'

type Commands = OrchestratorCommand[]
type Of<K extends RunMessage['type']> = Extract<RunMessage, { type: K }>

const DIGEST_BYTES = 16

/**
 * How long, in `failurePenaltyMs`, others come first: whoever several name, and whoever stands alone, who may have been sent
 * what nobody else was.
 */
const LONG = 30
const SHORT = 1

function digestOfSum(shares: readonly Digest[]): Digest {
  return bytesToHex(sha256(utf8ToBytes(sumText(shares))).subarray(0, DIGEST_BYTES))
}

/** What the contributors signed for; null where one of them did not sign: then nothing can be compared. */
function signedShares({ contributors, receipts }: StageProgress, shard: number): Digest[] | null {
  const shares: Digest[] = []
  for (const [id, version] of contributors!) {
    const book = receipts.get(id)
    const share = book?.version === version && book.refused === null ? book.shares[shard] : undefined
    if (share === undefined) return null
    shares.push(share)
  }
  return shares
}

/** Whether a sum is one of what was signed for, as far as its owner says; asks the owner for more where it is not. */
export function sumsWhatWasSigned(
  run: Run,
  node: FleetNode,
  { step, attempt, shard, digest }: Of<'reduced'>,
  commands: Commands,
): boolean {
  const progress = run.round!.stages[node.stage]!
  const contributors = progress.contributors!
  const alone = contributors.length === 1 && contributors[0]![0] === node.id
  const signed = signedShares(progress, shard)
  if ((alone && digest === null) || signed === null || digestOfSum(signed) === digest) return true
  const { generation } = run
  progress.tallies.set(`${shard} ${node.id}`, { digest, named: null })
  commands.push({ type: 'send', nodeId: node.id, message: { type: 'tally', generation, step, attempt, shard } })
  return false
}

export function onTallied(
  state: OrchestratorState,
  run: Run,
  node: FleetNode,
  { step, attempt, shard, digests }: Of<'tallied'>,
  now: number,
  commands: Commands,
): void {
  const progress = run.round?.stages[node.stage]
  if (!progress?.contributors || run.round!.step !== step || run.round!.apply || progress.attempt !== attempt) return
  const tally = progress.tallies.get(`${shard} ${node.id}`)
  const signed = tally && signedShares(progress, shard)
  if (!tally || !signed) return
  progress.movedAt = now
  const same = digests.length === signed.length && digestOfSum(digests) === tally.digest
  // An owner that does not stand by its own word names nobody.
  tally.named = new Set(same ? progress.contributors.flatMap(([id], i) => (digests[i] === signed[i] ? [] : [id])) : [])
  settleTally(state, run, node.stage, shard, false, now, commands)
}

/** Whether it is open what some owner summed. */
export function awaitsTallies(run: Run, stage: number): boolean {
  const { tallies } = run.round!.stages[stage]!
  if (tallies.size === 0) return false
  return run.owners[stage]!.some((owners, shard) => owners.slice(0, ACTIVE).some((id) => tallies.has(`${shard} ${id}`)))
}

/** Whoever is silent for too long is not waited for. */
export function settleLateTallies(
  state: OrchestratorState,
  run: Run,
  stage: number,
  now: number,
  commands: Commands,
): void {
  const { round } = run
  const progress = round!.stages[stage]!
  if (progress.tallies.size === 0 || now - progress.movedAt < state.timing.laggardMs) return
  for (let shard = 0; shard < run.owners[stage]!.length; shard++) {
    settleTally(state, run, stage, shard, true, now, commands)
    if (run.round !== round || progress.tallies.size === 0) return
  }
}

/**
 * A share is false for which all its owners, but whoever signed for it, name another digest: its contributor's work is done
 * again by others. An owner that names what another owner has as it was signed stands alone, and sums this shard no more.
 * Nobody is convicted by it: two owners may be one. But all of them are looked at.
 */
export function settleTally(
  state: OrchestratorState,
  run: Run,
  stage: number,
  shard: number,
  late: boolean,
  now: number,
  commands: Commands,
): void {
  const progress = run.round!.stages[stage]!
  if (!progress.contributors) return
  const { tallies, norms, waived } = progress
  const owners = run.owners[stage]![shard]!.slice(0, ACTIVE)
  const tallyOf = (id: string) => tallies.get(`${shard} ${id}`)
  const heard = owners.filter((id) => norms[shard]!.has(id) || tallyOf(id))
  if (!heard.some(tallyOf)) return
  const awaited = owners.filter((id, place) => place === 0 || !waived[shard] || tallyOf(id))
  if (!late && awaited.some((id) => !norms[shard]!.has(id) && !tallyOf(id)?.named)) return
  const named = new Set(heard.flatMap((id) => [...(tallyOf(id)?.named ?? [])]))
  const falseShares = [...named].filter((contributor) =>
    heard.every((id) => id === contributor || tallyOf(id)?.named?.has(contributor)),
  )
  const odd = heard.filter((id) => {
    const tally = tallyOf(id)
    return tally && !falseShares.some((contributor) => tally.named?.has(contributor))
  })
  const deviceOf = (id: string) => progress.work.get(id)?.device ?? state.nodes.get(id)?.deviceId
  const devices = [...new Set([...odd, ...named])].flatMap((id) => deviceOf(id) ?? [])
  if (devices.length > 0) commands.push({ type: 'disputed', runId: run.id, step: run.round!.step, devices })
  const tell = (text: string) => commands.push({ type: 'tell', runId: run.id, step: run.step, text })
  let moved = 0
  for (const id of falseShares) {
    moved += moveLeases(state, run, stage, id, 'false', now, commands)
    passOver(state, id, LONG, now)
  }
  // The sum is void, and with it whatever else was said of it.
  if (moved > 0) tallies.clear()
  if (moved > 0) return void tell(`A volunteer of stage ${stage + 1} sent another gradient than it signed for; others do its work again.`) // prettier-ignore
  const left = run.owners[stage]![shard]!.filter((id) => !odd.includes(id))
  if (falseShares.length > 0 || !left.some((id) => norms[shard]!.has(id))) {
    const text = `The gradients of stage ${stage + 1} are not those that were signed for, and nobody else can sum them.`
    return failGeneration(state, run, text, now, commands)
  }
  for (const id of odd) {
    tallies.delete(`${shard} ${id}`)
    passOver(state, id, SHORT, now)
  }
  const summed = (id: string) => norms[shard]!.has(id)
  run.owners[stage]![shard] = [...left.filter(summed), ...left.filter((id) => !summed(id))]
  waived[shard] = true
  tell(`A volunteer of stage ${stage + 1} summed other gradients than were signed for; its sum is not used.`)
  tellOwners(run, stage, commands)
  applyWhenWhole(state, run, now, commands)
}

function passOver({ nodes, timing }: OrchestratorState, id: string, times: number, now: number): void {
  const node = nodes.get(id)
  if (!node) return
  node.troubles += 1
  node.penaltyUntil = Math.max(node.penaltyUntil, now + times * timing.failurePenaltyMs)
}
