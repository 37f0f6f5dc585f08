/** Owns the regular asking for news: a hidden page asks nothing. */

/** Calls `refresh` now and `everyMs` after each end of it, until the returned function is called. */
export function whileVisible(refresh: () => Promise<void>, everyMs: number): () => void {
  let stopped = false
  let timer: ReturnType<typeof setTimeout> | undefined
  const round = async () => {
    if (!document.hidden) await refresh()
    if (!stopped) timer = setTimeout(() => void round(), everyMs)
  }
  void round()
  return () => {
    stopped = true
    clearTimeout(timer)
  }
}
