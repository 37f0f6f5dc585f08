/** Owns the agent's way to a GPU: Dawn in this process, and the choice among the adapters it finds. */
import { create } from 'webgpu'
import { acquireGpu, type GpuContext } from '../gpu/device.ts'
import { fail, SkeinError, type ErrorBody } from '../protocol/errors.ts'

/** Dawn ends the process without a word when what `create` returned is collected. */
const instances: GPU[] = []

function dawn(...flags: string[]): GPU {
  const gpu = create(flags)
  instances.push(gpu)
  return gpu
}

/** Names of all adapters, the best first. Dawn tells them only to whoever asks for one that does not exist. */
async function adapterNames(): Promise<string[]> {
  try {
    await dawn('adapter=\u0001').requestAdapter()
  } catch (caught) {
    return namesIn(caught instanceof Error ? caught.message : String(caught))
  }
  return []
}

/** Reads the lines ` * backend: 'vulkan', name: 'NVIDIA H200'`; one adapter may be there once a backend. */
export function namesIn(message: string): string[] {
  const names = [...message.matchAll(/^\s*\* backend: '[^']*', name: '(.*)'$/gm)].map((match) => match[1]!)
  return [...new Set(names)]
}

/**
 * The one adapter that `wanted` means: its place in the list from 0, its name, or a part of its name in any case.
 * @throws SkeinError `agent.adapter`
 */
export function chooseAdapter(names: readonly string[], wanted: string): string {
  const exact = names.find((name) => name === wanted)
  const matches = exact
    ? [exact]
    : /^\d+$/.test(wanted) && Number(wanted) < names.length
      ? [names[Number(wanted)]!]
      : names.filter((name) => name.toLowerCase().includes(wanted.toLowerCase()))
  if (matches.length === 1) return matches[0]!
  const list = names.map((name, i) => `${i}: ${name}`).join('; ')
  return fail(
    'agent.adapter',
    matches.length === 0
      ? `No adapter is called “${wanted}”.`
      : `“${wanted}” may be any of ${matches.length} adapters.`,
    list ? `Choose with --adapter one of ${list}.` : 'None was found at all: install the driver of the graphics card.',
  )
}

/**
 * A way to acquire the chosen adapter as often as it takes: each call makes a fresh device.
 * @param wanted see {@link chooseAdapter}; null takes the best
 * @throws SkeinError `agent.adapter`
 */
export async function gpuSource(wanted: string | null): Promise<() => Promise<GpuContext>> {
  const gpu = wanted === null ? dawn() : dawn(`adapter=${chooseAdapter(await adapterNames(), wanted)}`)
  return async () => {
    try {
      return await acquireGpu({ gpu })
    } catch (caught) {
      if (caught instanceof SkeinError && caught.code === 'gpu.no_adapter') throw new SkeinError(noAdapter)
      throw caught
    }
  }
}

const DRIVER =
  'Install the graphics card’s Vulkan driver and loader (`vulkaninfo --summary` lists what works; the user may have to be in the groups video and render)'

const noAdapter: ErrorBody = {
  code: 'gpu.no_adapter',
  message: 'No graphics adapter was found on this machine.',
  remedy: `${DRIVER}. With an installed Chromium, --allow-software works without a GPU, slowly.`,
}

export const softwareOnly = (adapterName: string): ErrorBody => ({
  code: 'gpu.software_adapter',
  message: `Only a software adapter was found (${adapterName}), no GPU.`,
  remedy: `${DRIVER}, or add --allow-software to work slowly all the same.`,
})
