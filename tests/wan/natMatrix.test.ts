/** Proves that two homes exchange frames whatever their NATs are, by the best way that there is; prints the matrix. */
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { terminalTable } from '../bench/report.ts'
import { resultInside } from './box/enter.ts'
import { boxOrSkip } from './boxOrSkip.ts'
import { bestWay, matrixTable } from './matrixTable.ts'
import type { NatMatrix, Row } from './programs/natMatrix.ts'

describe.skipIf(boxOrSkip())('homes behind NATs', () => {
  it('exchange frames: directly, else by TURN, else through the server', async () => {
    const matrix = await resultInside<NatMatrix>(path.join(import.meta.dirname, 'programs', 'natMatrix.ts'), ['agent'])
    if (!matrix.hasTurn)
      console.warn('\n  SKIPPED: the rows with TURN, for there is no coturn here (apt-get install coturn).\n')
    for (const turn of matrix.hasTurn ? [true, false] : [false]) {
      console.log(`\n${terminalTable(matrixTable(matrix, turn))}\n`)
    }
    const said = ({ turn, first, second, way }: Row) => `${first}–${second}${turn ? ', TURN' : ''}: ${way}`
    expect(matrix.rows).toHaveLength(matrix.hasTurn ? 32 : 16)
    expect(matrix.rows.filter((row) => row.way !== bestWay(row)).map(said)).toEqual([])
    for (const row of matrix.rows) expect(row.openMs, `${row.first}–${row.second}`).not.toContain(null)
  }, 240_000)
})
