/** Owns the page under test: built from the sources as they are, once for all specs. */
import path from 'node:path'
import { ensurePage } from '../../server/cli/setup.mjs'

export default function buildPage(): void {
  ensurePage(path.resolve(import.meta.dirname, '..', '..'), process.execPath, (line) => console.log(line))
}
