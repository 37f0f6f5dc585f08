/** Owns the one live region for small things that are done, such as a copied hash: a region for each would be hundreds. */

class Announcer {
  text = $state('')
  #timer: ReturnType<typeof setTimeout> | undefined

  /** The same twice is said twice, for the region is empty in between. */
  say(text: string): void {
    clearTimeout(this.#timer)
    this.text = text
    this.#timer = setTimeout(() => (this.text = ''), 1500)
  }
}

export const announcer = new Announcer()
