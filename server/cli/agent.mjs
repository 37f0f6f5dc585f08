/** Owns `npm run agent`: the headless volunteer, run from its sources. */
import './pageImports.mjs'

const { agentMain } = await import('../../src/agent/main.ts')
process.exit(await agentMain(process.argv.slice(2)))
