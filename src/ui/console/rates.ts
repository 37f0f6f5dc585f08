/** Owns speeds: counters that only grow, seen now and then, turned into units per second. */

interface Sample {
  readonly at: number
  readonly value: number
}

/** How far back a speed looks. Longer than a heartbeat and a step, short enough to show a stall. */
const WINDOW_MS = 20_000

/** The mean rate of a counter over the last {@link WINDOW_MS}. */
export class RateMeter {
  #samples: Sample[] = []

  /** Notes the counter's value at a time in milliseconds. A counter that fell began anew. */
  observe(value: number, at: number): void {
    const last = this.#samples.at(-1)
    if (last && value < last.value) this.#samples = []
    // Of several looks at one value only the first says when it was reached.
    if (last && value === last.value) return
    this.#samples.push({ at, value })
  }

  /** Units per second at `now`; null before two different values were seen. */
  at(now: number): number | null {
    while (this.#samples.length > 2 && this.#samples[1]!.at < now - WINDOW_MS) this.#samples.shift()
    const first = this.#samples[0]
    const last = this.#samples.at(-1)
    if (!first || !last || last.at <= first.at) return null
    // Once nothing came for longer than the window, the silence counts too.
    const end = now - last.at > WINDOW_MS ? now : last.at
    return ((last.value - first.value) / (end - first.at)) * 1000
  }
}

/** One meter a node. */
export class NodeRates {
  readonly #meters = new Map<string, RateMeter>()

  observe(nodes: readonly { nodeId: string; stats: { tokens: number } }[], at: number): void {
    const present = new Set(nodes.map((node) => node.nodeId))
    for (const id of this.#meters.keys()) if (!present.has(id)) this.#meters.delete(id)
    for (const node of nodes) {
      // A server that has just started has not heard a node's total yet; from nought it would look like a burst.
      if (node.stats.tokens === 0) continue
      let meter = this.#meters.get(node.nodeId)
      if (!meter) this.#meters.set(node.nodeId, (meter = new RateMeter()))
      meter.observe(node.stats.tokens, at)
    }
  }

  /** Tokens per second of a node, or null while unknown. */
  of(nodeId: string, now: number): number | null {
    return this.#meters.get(nodeId)?.at(now) ?? null
  }
}
