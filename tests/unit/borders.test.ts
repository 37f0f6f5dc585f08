/** Proves that the lint rules keep the borders between the rooms. */
import path from 'node:path'
import { ESLint } from 'eslint'
import { expect, it } from 'vitest'

const root = path.resolve(import.meta.dirname, '..', '..')
const eslint = new ESLint({ cwd: root })

/** Which rules complain of `code` if it stood in `file`, a file that exists. */
async function complaints(file: string, code: string): Promise<string[]> {
  const [result] = await eslint.lintText(`${code}\n`, { filePath: path.join(root, file) })
  const fatal = result!.messages.find((message) => message.fatal)
  if (fatal) throw new Error(fatal.message)
  const rules = result!.messages.map((message) => message.ruleId ?? '')
  return [...new Set(rules.filter((rule) => rule.startsWith('no-restricted')))]
}

const imports = (from: string) => `import * as there from '${from}'\nexport { there }`

it.each([
  ['src/protocol/api.ts', '../model/layout.ts'],
  ['src/protocol/api.ts', 'node:fs'],
  ['src/protocol/api.ts', 'comlink'],
  ['src/ui/state/route.ts', '../../gpu/device.ts'],
  ['src/ui/state/route.ts', '../../../server/main.ts'],
  ['src/model/layout.ts', '../net/link.ts'],
  ['src/model/layout.ts', 'peerjs'],
  ['src/codec/codec.ts', '../volunteer/volunteer.ts'],
  ['src/gpu/device.ts', '../net/link.ts'],
  ['src/gpu/device.ts', 'node:fs'],
  ['src/stage/machine.ts', '../gpu/device.ts'],
  ['src/stage/machine.ts', '../net/link.ts'],
  ['server/orchestrator/orchestrator.ts', '../db/store.ts'],
  ['server/orchestrator/orchestrator.ts', 'node:crypto'],
  ['src/ledger/replay.ts', 'node:crypto'],
  ['src/ledger/replay.ts', '../net/link.ts'],
  ['server/audits/audits.ts', '../db/store.ts'],
  ['src/audit/compare.ts', '../gpu/device.ts'],
  ['server/payouts/payout.ts', '../db/payoutStore.ts'],
  ['server/payouts/plan.ts', 'node:crypto'],
  ['server/main.ts', './chain/local/localChain.ts'],
  ['server/main.ts', '@acala-network/chopsticks-core'],
  ['server/app.ts', '../src/gpu/device.ts'],
  ['server/app.ts', '../src/ui/main.ts'],
  ['src/net/link.ts', '../../server/config.ts'],
  ['src/agent/agent.ts', '../../server/main.ts'],
  ['src/agent/agent.ts', '../ui/words/phase.ts'],
])('%s may not import %s', async (file, from) => {
  expect(await complaints(file, imports(from))).toEqual(['no-restricted-imports'])
})

it.each([
  ['src/protocol/api.ts', './errors.ts'],
  ['src/protocol/api.ts', 'zod'],
  ['src/ui/state/route.ts', '../../model/layout.ts'],
  ['src/model/layout.ts', '../protocol/runConfig.ts'],
  ['src/stage/machine.ts', '../protocol/routing.ts'],
  ['server/orchestrator/orchestrator.ts', '../../src/protocol/routing.ts'],
  ['server/audits/audits.ts', '../../src/audit/compare.ts'],
  ['server/app.ts', '../src/protocol/errors.ts'],
  ['src/agent/state.ts', 'node:fs'],
  ['src/agent/adapter.ts', '../gpu/device.ts'],
])('%s may import %s', async (file, from) => {
  expect(await complaints(file, imports(from))).toEqual([])
})

it.each([
  'export const x = Date.now()',
  'export const x = new Date()',
  'export const x = performance.now()',
  'export const x = Math.random()',
  'export const x = crypto.randomUUID()',
  'setTimeout(() => {}, 1)',
  'setInterval(() => {}, 1)',
])('a pure core may not say %s', async (code) => {
  const cores = ['src/stage/machine.ts', 'server/orchestrator/orchestrator.ts', 'server/audits/audits.ts']
  for (const file of [...cores, 'src/audit/compare.ts', 'src/ledger/replay.ts'])
    expect(await complaints(file, code), file).not.toEqual([])
  expect(await complaints('server/runs/coordinator.ts', code)).toEqual([])
})

it('the protocol and the arithmetic know no sockets', async () => {
  for (const file of ['src/protocol/api.ts', 'src/model/layout.ts'])
    expect(await complaints(file, "export const x = new WebSocket('ws://x')")).toEqual(['no-restricted-globals'])
  expect(await complaints('src/net/channel.ts', "export const x = new WebSocket('ws://x')")).toEqual([])
})
