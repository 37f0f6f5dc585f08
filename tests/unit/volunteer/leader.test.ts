/** Proves on a real Web Locks manager that one tab leads, and that the next takes over when it stops. */
import { describe, expect, it } from 'vitest'
import { seekLeadership } from '../../../src/volunteer/leader.ts'

/** One tab's story, as words. */
function tab() {
  const story: string[] = []
  const told: (() => void)[] = []
  const say = (word: string) => {
    story.push(word)
    for (const listener of told.splice(0)) listener()
  }
  const quit = seekLeadership({ leading: () => say('leading'), otherTab: () => say('otherTab') })
  const until = async (word: string) => {
    while (!story.includes(word)) await new Promise<void>((resolve) => told.push(resolve))
  }
  return { story, quit, until }
}

describe('leadership', () => {
  it('goes to one tab, then to the next that waits, and to none that gave up waiting', async () => {
    const first = tab()
    await first.until('leading')
    const second = tab()
    await second.until('otherTab')
    const third = tab()
    await third.until('otherTab')
    second.quit()
    first.quit()
    await third.until('leading')
    expect([first.story, second.story, third.story]).toEqual([['leading'], ['otherTab'], ['otherTab', 'leading']])
    third.quit()
    const fourth = tab()
    fourth.quit()
    const fifth = tab()
    await fifth.until('leading')
    expect(fourth.story).not.toContain('leading')
    fifth.quit()
  })
})
