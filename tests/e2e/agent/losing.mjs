/** Owns an agent that loses its GPU whenever it gets SIGUSR2; all else is the agent as it is. */
import '../../../server/cli/pageImports.mjs'

const { gpuSource } = await import('../../../src/agent/adapter.ts')
const { agentMain } = await import('../../../src/agent/main.ts')

/** @type {GPUDevice | null} */
let device = null
process.on('SIGUSR2', () => device?.destroy())

process.exit(
  await agentMain(process.argv.slice(2), async (wanted) => {
    const acquire = await gpuSource(wanted)
    return async () => {
      const gpu = await acquire()
      device = gpu.device
      return gpu
    }
  }),
)
