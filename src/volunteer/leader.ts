/** Owns the rule that one tab of a browser profile contributes: two would fight over one GPU. */

export interface LeadershipEvents {
  /** This tab is the one. */
  leading(): void
  /** Another tab is; `leading` follows when that one closes or stops. */
  otherTab(): void
}

export const LEADER_LOCK = 'skein-volunteer'

/**
 * Asks for leadership by a Web Lock, which the browser frees even when a tab crashes.
 * @returns gives leadership, or the wait for it, up.
 */
export function seekLeadership(events: LeadershipEvents, locks: LockManager = navigator.locks): () => void {
  const abandoned = new AbortController()
  const held = new Promise<void>((resolve) => abandoned.signal.addEventListener('abort', () => resolve()))
  const hold = (lock: Lock | null) => {
    if (!lock || abandoned.signal.aborted) return undefined
    events.leading()
    return held
  }
  const seek = async () => {
    let free = false
    await locks.request(LEADER_LOCK, { ifAvailable: true }, (lock) => {
      free = lock !== null
      return hold(lock)
    })
    if (free || abandoned.signal.aborted) return
    events.otherTab()
    await locks.request(LEADER_LOCK, { signal: abandoned.signal }, hold)
  }
  // The only rejection there is: the wait was abandoned.
  seek().catch(() => {})
  return () => abandoned.abort()
}
