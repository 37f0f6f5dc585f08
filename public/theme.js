/** Owns one thing: the person's chosen theme is on the root element before anything is painted. */
try {
  const theme = localStorage.getItem('skein.theme')
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme
} catch {
  // Storage may be forbidden; the system's preference then stands.
}
