/** Owns the theme: the system's preference unless the person chose one. `public/theme.js` applies the choice before paint. */

export type ThemeChoice = 'system' | 'light' | 'dark'

const KEY = 'skein.theme'
const order: readonly ThemeChoice[] = ['system', 'light', 'dark']

class Theme {
  choice = $state<ThemeChoice>(read())
  #systemDark = $state(false)

  constructor() {
    const query = matchMedia('(prefers-color-scheme: dark)')
    this.#systemDark = query.matches
    query.addEventListener('change', (event) => (this.#systemDark = event.matches))
  }

  /** What is shown now; canvases redraw when it changes. */
  get shown(): 'light' | 'dark' {
    if (this.choice !== 'system') return this.choice
    return this.#systemDark ? 'dark' : 'light'
  }

  next(): void {
    this.choice = order[(order.indexOf(this.choice) + 1) % order.length]!
    const { dataset } = document.documentElement
    if (this.choice === 'system') delete dataset.theme
    else dataset.theme = this.choice
    try {
      if (this.choice === 'system') localStorage.removeItem(KEY)
      else localStorage.setItem(KEY, this.choice)
    } catch {
      // Storage may be forbidden; the choice then lasts as long as the page.
    }
  }
}

function read(): ThemeChoice {
  const set = document.documentElement.dataset.theme
  return set === 'light' || set === 'dark' ? set : 'system'
}

export const theme = new Theme()
