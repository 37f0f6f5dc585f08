/** Owns an agent that gives its share of every gradient with the wrong sign from the first SIGUSR2 on; all else is the agent as it is. */
import '../../../server/cli/pageImports.mjs'

const { agentMain } = await import('../../../src/agent/main.ts')
const { ShardWork } = await import('../../../src/stage/shardWork.ts')

let lies = false
process.on('SIGUSR2', () => (lies = true))

const { readGradient } = ShardWork.prototype
ShardWork.prototype.readGradient = async function (/** @type {number} */ shard) {
  const bytes = await readGradient.call(this, shard)
  const { buffer, byteOffset, byteLength } = bytes
  const values = new Float32Array(buffer, byteOffset, byteLength / 4)
  if (lies) values.forEach((value, i) => (values[i] = -value))
  return bytes
}

process.exit(await agentMain(process.argv.slice(2)))
