/**
 * Owns what a step's work earns: each microbatch counts for the device whose work is in the sum, as long as what its receipt
 * says it took is what the neighbour's says it made, wherever both speak of the same tensor.
 */
import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js'
import { microbatchCredit } from '../../src/model/credit.ts'
import type { ErrorBody } from '../../src/protocol/errors.ts'
import type { EarnedCredit, ReceiptEntry } from '../../src/protocol/receipt.ts'
import { refusal } from './receipts.ts'
import type { Dispute, ReceiptBook, Settlement } from './signedWork.ts'
import type { Round } from './round.ts'
import type { OrchestratorCommand, OrchestratorState, Run } from './types.ts'

type Commands = OrchestratorCommand[]
/** By stage and place: why a microbatch is refused; null where it is accepted. */
type Verdicts = (ErrorBody | null)[][]
type Direction = Dispute['direction']

/** Pairs of devices that are named in the run's events for one step. */
const MOST_TOLD = 8

const MISSING = refusal('receipt.missing')
const STALE = refusal('receipt.stale')
const NEIGHBOUR = refusal('receipt.neighbour')
const MISMATCH = refusal('receipt.mismatch')

/** Decides once the sums of all stages are made: from then on whose work is in them does not change any more. */
export function settleWork(run: Run, round: Round): Settlement {
  const settlement: Settlement = { work: [], refused: [], disputes: [], attested: 0, unattested: 0 }
  const verdicts: Verdicts = round.stages.map(({ owner }, stage) =>
    owner.map((id, place) => {
      if (valid(round, stage, id)?.entries.has(place)) return null
      const book = round.stages[stage]!.receipts.get(id)
      return book?.refused ?? (book?.stale ? STALE : MISSING)
    }),
  )
  for (let boundary = 0; boundary < run.config.stages - 1; boundary++)
    for (let place = 0; place < round.microbatches; place++)
      for (const direction of ['activation', 'gradient'] as const)
        compare(round, boundary, direction, place, verdicts, settlement)
  for (let stage = 0; stage < run.config.stages; stage++) credit(run, round, stage, verdicts[stage]!, settlement)
  return settlement
}

/** A node's receipts of its last leases at a stage, if they are to be believed. */
function valid(round: Round, stage: number, id: string): ReceiptBook | null {
  const { receipts, work } = round.stages[stage]!
  const book = receipts.get(id)
  const version = work.get(id)?.version
  return book && book.refused === null && (version === undefined || version === book.version) ? book : null
}

/**
 * Holds what the taker of a tensor says against what its maker says. A tensor of a node that lost its leases before it could
 * sign, or that came back and may have made it twice, has nothing to be held against: it is unattested, and no fault.
 */
function compare(
  round: Round,
  boundary: number,
  direction: Direction,
  place: number,
  verdicts: Verdicts,
  settlement: Settlement,
): void {
  const forward = direction === 'activation'
  const [making, taking] = forward ? [boundary, boundary + 1] : [boundary + 1, boundary]
  const [makers, takers] = [round.stages[making]!, round.stages[taking]!]
  const taker = takers.owner[place]!
  const takerBook = valid(round, taking, taker)
  const entry = takerBook?.entries.get(place)
  if (!takerBook || !entry) return
  const [from, taken] = forward ? [entry.up!, entry.activationTaken] : [entry.down!, entry.gradientTaken]
  const owns = makers.owner[place] === from
  if (!owns && !makers.revoked.get(from)?.has(place)) {
    verdicts[taking]![place] ??= NEIGHBOUR
    return
  }
  const makerBook = makers.rejoined.has(from) ? null : valid(round, making, from)
  const made = makerBook?.entries.get(place)
  if (!makerBook || !made) {
    settlement.unattested += 1
    return
  }
  if (madeIn(made, direction) === taken) {
    settlement.attested += 1
    return
  }
  verdicts[taking]![place] = MISMATCH
  if (owns) verdicts[making]![place] = MISMATCH
  const microbatch = round.first + place
  settlement.disputes.push({ boundary, direction, microbatch, maker: makerBook.device, taker: takerBook.device })
}

function madeIn(entry: ReceiptEntry<string>, direction: Direction): string | null {
  return direction === 'activation' ? entry.activationMade : entry.gradientMade
}

function credit(
  run: Run,
  round: Round,
  stage: number,
  verdicts: readonly (ErrorBody | null)[],
  settlement: Settlement,
): void {
  const { owner, receipts, work } = round.stages[stage]!
  const each = microbatchCredit(run.config, stage)
  const about = { kind: 'work', run: run.id, generation: run.generation, step: round.step, stage } as const
  const earned = new Map<string, { accepted: number; hashes: string[] }>()
  for (const [id, book] of receipts) {
    if (!valid(round, stage, id)) continue
    for (const { hash, places } of book.receipts) {
      let accepted = 0
      for (const place of places) {
        // Guard: accepted work only. Who lost its leases signed for work that others did again.
        if (owner[place] !== id) continue
        if (verdicts[place] === null) accepted += 1
      }
      if (accepted === 0) continue
      const known = earned.get(book.device) ?? { accepted: 0, hashes: [] }
      earned.set(book.device, { accepted: known.accepted + accepted, hashes: [...known.hashes, hash] })
    }
  }
  // One row a device, which may have been here as one node and come back as another.
  for (const [device, { accepted, hashes }] of earned) {
    const receipt = hashes.length === 1 ? hashes[0]! : sha256Hex(hashes.join('\n'))
    const credit = (each * BigInt(accepted)).toString()
    settlement.work.push({ ...about, device, microbatches: accepted, credit, receipt })
  }
  const refused = new Map<string, Map<ErrorBody, number>>()
  owner.forEach((id, place) => {
    const error = verdicts[place]!
    if (error === null) return
    const { device } = work.get(id)!
    const counts = refused.get(device) ?? new Map<ErrorBody, number>()
    refused.set(device, counts.set(error, (counts.get(error) ?? 0) + 1))
  })
  for (const [device, counts] of refused)
    for (const [error, microbatches] of counts) settlement.refused.push({ device, stage, microbatches, error })
}

/** What a committed step earned is spent. */
export function bookCredit({ purse }: Run, work: readonly EarnedCredit[]): void {
  if (purse) for (const { credit } of work) purse.credit += BigInt(credit)
}

/** Tells each device of a committed step what it earned, and what not and why; tells the run of what is disputed. */
export function announceCredit(
  state: OrchestratorState,
  run: Run,
  step: number,
  { work, refused, disputes }: Pick<Settlement, 'work' | 'refused' | 'disputes'>,
  commands: Commands,
): void {
  const news = new Map<string, { stage: number; work: EarnedCredit[]; refused: { microbatches: number; error: ErrorBody }[] }>() // prettier-ignore
  const of = (device: string, stage: number) => {
    const known = news.get(`${device} ${stage}`) ?? { stage, work: [], refused: [] }
    news.set(`${device} ${stage}`, known)
    return known
  }
  for (const entry of work) of(entry.device, entry.stage).work.push(entry)
  for (const { device, stage, microbatches, error } of refused) of(device, stage).refused.push({ microbatches, error })
  const nodes = new Map([...state.nodes.values()].map((node) => [node.deviceId, node.id]))
  for (const [key, said] of news) {
    const nodeId = nodes.get(key.split(' ')[0]!)
    if (nodeId === undefined) continue
    commands.push({ type: 'send', nodeId, message: { type: 'credited', runId: run.id, step, ...said } })
  }
  tellDisputes(run, step, disputes, commands)
}

function tellDisputes(run: Run, step: number, disputes: readonly Dispute[], commands: Commands): void {
  const pairs = new Map<string, { first: Dispute; count: number }>()
  for (const dispute of disputes) {
    const key = `${dispute.maker} ${dispute.taker} ${dispute.boundary}`
    const known = pairs.get(key)
    if (known) known.count += 1
    else pairs.set(key, { first: dispute, count: 1 })
  }
  const tell = (text: string) => commands.push({ type: 'tell', runId: run.id, step, text })
  for (const { first, count } of [...pairs.values()].slice(0, MOST_TOLD)) {
    const { boundary, maker, taker } = first
    const tensors = count === 1 ? 'a tensor' : `${count} tensors`
    tell(
      `Devices ${short(maker)} and ${short(taker)} name different bytes for ${tensors} between stages ${boundary + 1} and ${boundary + 2}; neither is credited for that work until it is settled.`,
    )
  }
  if (pairs.size > MOST_TOLD) tell(`${pairs.size - MOST_TOLD} more pairs of devices contradict each other.`)
}

const sha256Hex = (text: string) => bytesToHex(sha256(utf8ToBytes(text)))
const short = (device: string) => (device.length > 12 ? `${device.slice(0, 12)}…` : device)
