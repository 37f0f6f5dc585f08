/** Owns the opening of contenders in one place: builds them, starts each and finds out on what it runs. */
import { fail } from '../../src/protocol/errors.ts'
import { implOf, type EngineSpec, type Place } from './engines.ts'
import { isSkein, reason, type Entrant, type Teller } from './entrant.ts'
import { buildEngines } from './realms/build.ts'
import { openChromium } from './realms/chromium.ts'
import { openDawn } from './realms/dawn.ts'
import type { Realm } from './realms/remote.ts'

export interface Stage {
  /** Opens all engines of the place afresh, each in a page or process of its own. */
  enter(): Promise<Entrant[]>
  close(): Promise<void>
}

/** Throws `bench.no_browser`, and `enter` `bench.no_adapter` where Skein finds none; a peer that fails is told. */
export async function openPlace(place: Place, engines: readonly EngineSpec[], teller: Teller): Promise<Stage> {
  teller.now(`building ${engines.map(({ name }) => name).join(', ')} for ${place}`)
  const folder = await buildEngines(place, engines)
  const realm: Realm = place === 'dawn' ? openDawn(folder) : await openChromium(folder)
  return {
    async enter() {
      const entrants: Entrant[] = []
      for (const engine of engines) {
        const impl = implOf(engine)
        teller.now(`starting ${impl} in ${place}`)
        try {
          entrants.push(await start(realm, place, engine, impl))
        } catch (caught) {
          if (isSkein({ impl })) throw caught
          teller.say(`${impl} is left out in ${place}: ${reason(caught)}`)
        }
      }
      return entrants
    },
    close: () => realm.close(),
  }
}

async function start(realm: Realm, place: Place, engine: EngineSpec, impl: string): Promise<Entrant> {
  const { contender, close } = await realm.open(engine.name)
  const { adapter, software } = await contender.start()
  if (!adapter) {
    await close()
    fail(
      'bench.no_adapter',
      `WebGPU finds no adapter ${place === 'dawn' ? 'on Dawn' : 'in this browser'}.`,
      place === 'dawn'
        ? 'Install a Vulkan driver, or Chromium, whose software adapter is used then.'
        : 'Update the graphics driver, or name another browser in SKEIN_BROWSER.',
    )
  }
  return { impl, where: place, adapter, software, contender, close }
}
